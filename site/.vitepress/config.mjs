import { copyFileSync, mkdirSync, readFileSync } from 'node:fs'
import { dirname, join, posix } from 'node:path'
import { defineConfig } from 'vitepress'
import { ROOT, isPage, tracked } from '../repository.mjs'

const SOURCE = join(ROOT, 'site/target/source')
const pages = tracked.filter(isPage)

function title(page) {
  return /^# (.*)$/m.exec(readFileSync(join(ROOT, page), 'utf8'))[1].replaceAll('`', '')
}

function item(page) {
  return { text: title(page), link: '/' + page.replace(/README\.md$/, '').replace(/\.md$/, '') }
}

/** Points a link of the repository at what the site has for it; null if that is nothing. */
function resolve(page, href) {
  const [path, anchor] = href.split('#')
  const target = posix.join(posix.dirname(page), path).replace(/\/$/, '')
  const suffix = anchor ? '#' + anchor : ''
  if (isPage(target)) {
    return '/' + target.replace(/README\.md$/, '') + suffix
  }
  if (isPage(target + '/README.md')) {
    return '/' + target + '/' + suffix
  }
  if (target.endsWith('.md') && tracked.includes(target)) {
    return null
  }
  if (tracked.includes(target)) {
    const copy = join(SOURCE, 'public', target)
    mkdirSync(dirname(copy), { recursive: true })
    copyFileSync(join(ROOT, target), copy)
    return '/' + target
  }
  if (tracked.some((file) => file.startsWith(target + '/'))) {
    return null
  }
  throw new Error(`${page}: dead link ${href}`)
}

function links(md) {
  md.core.ruler.push('repository-links', (state) => {
    const page = state.env.relativePath.replace(/(^|\/)index\.md$/, '$1README.md')
    if (!isPage(page)) {
      return
    }
    for (const token of state.tokens) {
      let dropped = false
      for (const child of token.children ?? []) {
        if (child.type === 'link_open') {
          const href = child.attrGet('href')
          if (/^([a-z]+:|#|\/)/.test(href)) {
            continue
          }
          const resolved = resolve(page, href)
          dropped = resolved === null
          if (dropped) {
            child.tag = 'span'
            child.attrs = []
          } else {
            child.attrSet('href', resolved)
            if (!/(\.md|\/)(#|$)/.test(resolved)) {
              child.attrSet('target', '_blank')
            }
          }
        } else if (child.type === 'link_close' && dropped) {
          child.tag = 'span'
          dropped = false
        } else if (child.type === 'image' && !/^[a-z]+:/.test(child.attrGet('src'))) {
          child.attrSet('src', resolve(page, child.attrGet('src')))
        }
      }
    }
  })
}

/** As the repository's own pages are linked. */
function slugify(heading) {
  return heading.trim().toLowerCase().replace(/[^\p{L}\p{N} _-]/gu, '').replaceAll(' ', '-')
}

/** The pages of a folder, in the order of its README. */
function under(folder) {
  const index = readFileSync(join(ROOT, folder, 'README.md'), 'utf8')
  const place = (page) => index.indexOf(`(${posix.basename(page)}`)
  return pages.filter((page) => posix.dirname(page) === folder).sort((a, b) => place(a) - place(b))
}

export default defineConfig({
  title: 'EvalOps service runtime',
  description: 'The start-up code of Java services: one BOM, one small jar per concern',
  srcDir: 'target/source',
  srcExclude: ['public/**'],
  cacheDir: 'target/cache',
  rewrites: (page) => page.replace(/(^|\/)README\.md$/, '$1index.md'),
  head: [['link', { rel: 'icon', href: 'data:,' }]],
  markdown: { config: links, anchor: { slugify } },
  vite: { publicDir: join(SOURCE, 'public') },
  themeConfig: {
    search: { provider: 'local' },
    nav: [
      { text: 'Guides', link: '/docs/' },
      { text: 'Operations', link: '/docs/operations/' },
      { text: 'Javadoc', link: '/javadoc/' },
      { text: 'Changes', link: '/CHANGELOG' }
    ],
    sidebar: [
      { text: 'Guides', items: under('docs').map(item) },
      { text: 'Operations', items: under('docs/operations').map(item) },
      { text: 'Modules', items: pages.filter((page) => page.startsWith('runtime-')).map(item) },
      { text: 'Programs', items: pages.filter((page) => /^(agent|benchmarks|examples)/.test(page)).map(item) }
    ]
  }
})
