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

/** The public types of the modules, and where their Javadoc is; null for a name that several have. */
const types = new Map()
for (const record of tracked.filter((file) => /^runtime-[^/]*\/api\.txt$/.test(file))) {
  let folder = ''
  for (const line of readFileSync(join(ROOT, record), 'utf8').split('\n')) {
    if (line.startsWith('package ')) {
      folder = `/javadoc/${posix.dirname(record)}/${line.slice('package '.length).replaceAll('.', '/')}`
    }
    const [, name] = /^(?:@.* )?public (?:[a-z]+ )*@?(?:class|interface|enum|record) ([\w.]+)/.exec(line) ?? []
    if (name) {
      types.set(name, types.has(name) ? null : `${folder}/${name}.html`)
    }
  }
}

/** Links code such as `RateLimiter` or `RateLimiter.builder()` to the Javadoc of its type. */
function javadoc(children) {
  let within = 0
  return children.flatMap((child) => {
    within += child.type === 'link_open' ? 1 : child.type === 'link_close' ? -1 : 0
    if (child.type !== 'code_inline' || within > 0) {
      return child
    }
    const [, name] = /^@?([A-Z]\w*(?:\.[A-Z]\w*)*)(?![\w-])/.exec(child.content) ?? []
    const target = types.get(name) ?? types.get(name?.replace(/\.[A-Z_]+$/, ''))
    if (!target) {
      return child
    }
    const html = (content) => Object.assign(new child.constructor('html_inline', '', 0), { content })
    return [html(`<a href="${target}" target="_self">`), child, html('</a>')]
  })
}

function links(md) {
  md.core.ruler.push('repository-links', (state) => {
    const page = state.env.relativePath.replace(/(^|\/)index\.md$/, '$1README.md')
    if (!isPage(page)) {
      return
    }
    let inHeading = false
    for (const token of state.tokens) {
      let dropped = false
      for (const child of token.children ?? []) {
        if (child.type === 'code_inline') {
          child.attrSet('v-pre', '') // Vue leaves {{…}} alone
        } else if (child.type === 'link_open') {
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
      if (token.type === 'inline' && !inHeading) {
        token.children = javadoc(token.children)
      }
      inHeading = token.type === 'heading_open'
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
