// Opens the built site in a real browser: every page renders without an error, links lead somewhere, the search finds.
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs'
import { createServer } from 'node:http'
import { extname, join } from 'node:path'
import { chromium } from 'playwright-core'
import { ROOT } from './repository.mjs'

const SITE = join(ROOT, 'target/site')
const CHROMIUM = ['/usr/bin/chromium', '/usr/bin/google-chrome'].find(existsSync)
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.json': 'application/json' }

if (!CHROMIUM) {
  throw new Error('no Chromium: install Debian\'s package chromium, or Google Chrome')
}
const server = createServer((request, response) => {
  const path = decodeURIComponent(new URL(request.url, 'http://x').pathname)
  const file = join(SITE, path.endsWith('/') ? path + 'index.html' : path)
  if (!file.startsWith(SITE) || !existsSync(file) || statSync(file).isDirectory()) {
    response.writeHead(404).end()
    return
  }
  response.writeHead(200, { 'Content-Type': TYPES[extname(file)] ?? 'application/octet-stream' }).end(readFileSync(file))
}).listen(0, '127.0.0.1')
await new Promise((listening) => server.once('listening', listening))
const base = `http://127.0.0.1:${server.address().port}`

const browser = await chromium.launch({
  executablePath: CHROMIUM,
  args: ['--no-sandbox', '--disable-quic', '--disable-background-networking', '--disable-component-update', '--disable-sync']
})
const problems = []
try {
  const page = await browser.newPage()
  let at = ''
  page.on('console', (message) => message.type() === 'error' && problems.push(`${at}: ${message.text()}`))
  page.on('pageerror', (error) => problems.push(`${at}: ${error.message}`))
  const targets = new Map()
  const pages = readdirSync(SITE, { recursive: true }).filter((file) => file.endsWith('.html') && !/^(javadoc\/.|404)/.test(file))
  for (const file of pages) {
    at = file
    await page.goto(`${base}/${file}`)
    await page.locator('.vp-doc h1').first().waitFor().catch(() => problems.push(`${file}: no heading`))
    for (const href of await page.locator('a[href]').evaluateAll((links) => links.map((link) => link.href))) {
      if (href.startsWith(base)) {
        targets.set(href, file)
      }
    }
  }
  const ids = new Map()
  for (const [href, file] of targets) {
    const url = new URL(href)
    const target = url.pathname.endsWith('/') ? url.pathname + 'index.html' : url.pathname
    const path = join(SITE, decodeURIComponent(target))
    if (!existsSync(path)) {
      problems.push(`${file}: dead link ${url.pathname}`)
    } else if (url.hash && path.endsWith('.html')) {
      if (!ids.has(path)) {
        ids.set(path, new Set([...readFileSync(path, 'utf8').matchAll(/ id="([^"]*)"/g)].map((match) => match[1])))
      }
      if (!ids.get(path).has(decodeURIComponent(url.hash.slice(1)))) {
        problems.push(`${file}: no such place ${url.pathname}${url.hash}`)
      }
    }
  }
  const javadoc = [...targets.keys()].filter((href) => /\/javadoc\/.*\/[A-Z]\w*\.html$/.test(new URL(href).pathname))
  if (!javadoc.some((href) => href.endsWith('/RateLimiter.html'))) {
    problems.push('no page links to the Javadoc of RateLimiter')
  }
  at = 'search'
  await page.goto(`${base}/index.html`)
  await page.locator('.DocSearch-Button').first().click()
  await page.locator('#localsearch-input').fill('RateLimiter')
  await page.locator('#localsearch-list a').first().waitFor()
  const found = await page.locator('#localsearch-list a').evaluateAll((links) => links.map((link) => link.getAttribute('href')))
  if (!found.some((href) => href.includes('runtime-ratelimit'))) {
    problems.push(`the search for RateLimiter finds ${found}`)
  }
  console.log(`${pages.length} pages, ${targets.size} links, ${javadoc.length} of them to types, ${found.length} places with RateLimiter`)
} finally {
  await browser.close()
  server.close()
}
if (problems.length > 0) {
  console.error(problems.join('\n'))
  process.exitCode = 1
}
