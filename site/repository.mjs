// What of the repository is on the site.
import { execFileSync } from 'node:child_process'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..')

/** All files that git knows. */
export const tracked = execFileSync('git', ['ls-files'], { cwd: ROOT, encoding: 'utf8' }).trim().split('\n')

/** Whether this file is a page. */
export function isPage(file) {
  return /^(README|CHANGELOG|CONTRIBUTING|SECURITY)\.md$|^docs\/.*\.md$|^(runtime-[^/]*|agent-hook-cli|benchmarks|examples\/[^/]*)\/README\.md$/.test(file)
}
