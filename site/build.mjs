// Builds the documentation site in target/site: the Markdown of the repository, and the Javadoc of its modules.
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'vitepress'
import { ROOT, isPage, tracked } from './repository.mjs'

const HERE = dirname(fileURLToPath(import.meta.url))
const SOURCE = join(ROOT, 'site/target/source')
const SITE = join(ROOT, 'target/site')

rmSync(SOURCE, { recursive: true, force: true })
rmSync(SITE, { recursive: true, force: true })
for (const page of tracked.filter(isPage)) {
  copy(page, join(SOURCE, page))
}

const version = /<revision>(.*)<\/revision>/.exec(readFileSync(join(ROOT, 'pom.xml'), 'utf8'))[1]
const rows = []
for (const module of tracked.filter((file) => /^runtime-[^/]*\/pom\.xml$/.test(file)).map(dirname)) {
  const apidocs = join(ROOT, module, 'target/reports/apidocs')
  if (existsSync(apidocs)) {
    cpSync(apidocs, join(SOURCE, 'public/javadoc', module), { recursive: true })
    rows.push(`- <a href="./${module}/index.html" target="_self">${module}</a>`)
  }
}
if (rows.length === 0) {
  throw new Error('no Javadoc is built; run make docs')
}
mkdirSync(join(SOURCE, 'javadoc'), { recursive: true })
writeFileSync(join(SOURCE, 'javadoc/index.md'), `# Javadoc\n\nOf version ${version}; each page has a search of its own.\n\n${rows.join('\n')}\n`)

await build(HERE, { outDir: SITE })
console.log(`built ${SITE}`)

function copy(from, to) {
  mkdirSync(dirname(to), { recursive: true })
  cpSync(join(ROOT, from), to)
}
