import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import pixelmatch from 'pixelmatch';
import { PNG } from 'pngjs';
import type { Page } from 'puppeteer-core';

const REFERENCES = join(import.meta.dirname, 'screenshots');
/** What was found instead, for people to look at. */
const FOUND = join(import.meta.dirname, '../../.cache/dashboard');
/** Of all pixels: letters are not drawn quite alike by each version of the browser. */
const DIFFERENT_SHARE_MAX = 0.001;

/** What is never the same; that its place is the same is compared. */
const CHANGING = ['#facts', '#interfaces tbody small', '#interfaces tbody td'];

/** Large areas of one colour are kept best like this. */
const COMPACT = { colorType: 2, filterType: 0, deflateStrategy: 0 } as const;
/** How far, in each channel, a colour is from one that it still passes for. */
const NEAR = 48;

interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

/**
 * Compares the page with the reference of this name. Without one, it is made, for people to look
 * at and to keep, and the test fails.
 *
 * @param changing selectors of what else is never the same
 */
export async function expectScreenshot(
  page: Page,
  name: string,
  changing: readonly string[] = [],
): Promise<void> {
  const boxes = (await page.evaluate(`
    window.scrollTo(0, 0);
    ${JSON.stringify([...CHANGING, ...changing])}
      .flatMap((selector) => [...document.querySelectorAll(selector)])
      .map((element) => element.getBoundingClientRect().toJSON())
  `)) as Box[];
  const shot = PNG.sync.read(Buffer.from(await page.screenshot({ fullPage: true })));
  for (const box of boxes) cover(shot, box);
  const path = join(REFERENCES, `${name}.png`);
  const reference = await readFile(path).then(PNG.sync.read, () => undefined);
  if (reference === undefined) {
    await save(shot, path);
    throw new Error(`there was no ${path}; look at the one that was made`);
  }
  const { width, height } = reference;
  const difference = new PNG({ width, height });
  const isOfSize = shot.width === width && shot.height === height;
  const count = isOfSize
    ? pixelmatch(shot.data, reference.data, difference.data, width, height)
    : Number.POSITIVE_INFINITY;
  if (count <= width * height * DIFFERENT_SHARE_MAX) return;
  await save(shot, join(FOUND, `${name}.png`));
  await save(difference, join(FOUND, `${name}-difference.png`));
  throw new Error(
    `${isOfSize ? count : 'all'} pixels differ: compare ${path} with ${FOUND}/${name}*.png`,
  );
}

/** How many pixels of an element have about this colour, as 0xrrggbb. */
export async function countPixels(page: Page, selector: string, colour: number): Promise<number> {
  const element = await page.$(selector);
  if (element === null) throw new Error(`the page has no ${selector}`);
  const { data } = PNG.sync.read(Buffer.from(await element.screenshot()));
  const channels = [colour >> 16, (colour >> 8) & 0xff, colour & 0xff];
  let count = 0;
  for (let at = 0; at < data.length; at += 4) {
    const distances = channels.map((value, channel) => Math.abs((data[at + channel] ?? 0) - value));
    if (Math.max(...distances) < NEAR) count++;
  }
  return count;
}

async function save(image: PNG, path: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, PNG.sync.write(image, COMPACT));
}

function cover({ data, width, height }: PNG, box: Box): void {
  const [left, top] = [Math.floor(box.x), Math.floor(box.y)];
  const [right, bottom] = [Math.ceil(box.x + box.width), Math.ceil(box.y + box.height)];
  for (let y = Math.max(0, top); y < Math.min(bottom, height); y++) {
    for (let x = Math.max(0, left); x < Math.min(right, width); x++) {
      data.fill(0x99, (y * width + x) * 4, (y * width + x) * 4 + 3);
    }
  }
}
