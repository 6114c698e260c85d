import { type Browser, launch, type Page } from 'puppeteer-core';
import type { NetworkNamespace } from './netns.ts';
import { disposeAll, TempDirectory } from './tools.ts';

export const BROWSER = 'chromium';

const WINDOW = { width: 1240, height: 1000 };

/**
 * Debian's Chromium, without a window, in a network of the test's own: it reaches what is in that
 * network and nothing else.
 */
export class TestBrowser implements AsyncDisposable {
  readonly #browser: Browser;
  readonly #directory: TempDirectory;

  private constructor(browser: Browser, directory: TempDirectory) {
    this.#browser = browser;
    this.#directory = directory;
  }

  static async start(namespace: NetworkNamespace): Promise<TestBrowser> {
    const directory = await TempDirectory.create();
    const args = [
      ...['netns', 'exec', namespace.name, BROWSER, '--headless=new', '--remote-debugging-pipe'],
      `--user-data-dir=${directory.path}`,
      // The tests are root's, in a machine that may have little in /dev/shm.
      ...['--no-sandbox', '--disable-dev-shm-usage', '--no-first-run', '--disable-gpu'],
      ...['--disable-background-networking', '--disable-component-update', '--disable-sync'],
      // Screenshots are to be the same everywhere.
      ...['--force-color-profile=srgb', '--font-render-hinting=none', '--hide-scrollbars'],
      ...['--disable-lcd-text', '--lang=en', 'about:blank'],
    ];
    const browser = await launch({
      executablePath: '/usr/sbin/ip',
      args,
      ignoreDefaultArgs: true,
      pipe: true,
      defaultViewport: WINDOW,
    });
    return new TestBrowser(browser, directory);
  }

  /** @param prepare is given the page before it is there */
  async open(url: string, prepare: (page: Page) => void = () => {}): Promise<Page> {
    const page = await this.#browser.newPage();
    prepare(page);
    await page.goto(url);
    return page;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#browser.close();
    await disposeAll(this.#directory);
  }
}
