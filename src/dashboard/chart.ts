/** Lines over the last minutes, as SVG. */
import { make, setText } from './dom.ts';
import { HISTORY_MS, type Moment, type Rates } from './history.ts';

const WIDTH = 560;
const HEIGHT = 180;
const LEFT = 58;
const TOP = 8;
const BOTTOM = 22;
const STEPS = 4;
/** Moments further apart are not joined: nobody knows what was between them. */
const GAP_MS = 3500;
const MINUTE_MS = 60_000;

export interface Line {
  /** In the legend, and the class that gives its colour. */
  readonly name: string;
  measure(rates: Rates): number | undefined;
}

export interface ChartOptions {
  readonly title: string;
  readonly lines: readonly Line[];
  /** The least that the whole height stands for. */
  readonly least: number;
  format(value: number | undefined): string;
}

export class Chart {
  readonly #options: ChartOptions;
  readonly #plot = makeSvg('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img' });
  readonly #labels: readonly SVGElement[];
  readonly #paths: readonly SVGElement[];
  readonly #values: readonly HTMLElement[];

  constructor(figure: HTMLElement, options: ChartOptions) {
    this.#options = options;
    const { title, lines } = options;
    this.#values = lines.map(() => make('b', { className: 'live' }));
    const legend = lines.map(({ name }, index) =>
      make('span', { className: `legend ${name}` }, `${name} `, this.#values[index] as Node),
    );
    figure.append(make('figcaption', {}, make('span', {}, title), ...legend));
    this.#labels = this.#drawGrid();
    this.#paths = lines.map(({ name }) => makeSvg('path', { class: `line ${name}` }));
    this.#plot.append(...this.#paths);
    figure.append(this.#plot);
  }

  /** @param of what the moments are of, for those who do not see the lines */
  show(moments: readonly Moment[], nowMs: number, of: string): void {
    const { title, lines, least, format } = this.#options;
    const all = lines.flatMap(({ measure }) => moments.map(({ rates }) => measure(rates) ?? 0));
    const top = roundUp(Math.max(least, ...all));
    for (const [step, label] of this.#labels.entries())
      setText(label, format((top * step) / STEPS));
    const rates = moments.at(-1)?.rates;
    const told = lines.map(({ name, measure }, index) => {
      const text = format(rates && measure(rates));
      this.#paths[index]?.setAttribute('d', trace(moments, measure, nowMs, top));
      setText(this.#values[index] as Element, text);
      return `${name} ${text}`;
    });
    this.#plot.setAttribute('aria-label', `${title} of ${of}: ${told.join(', ')} now`);
  }

  /** @returns the labels of the grid's lines, from below */
  #drawGrid(): SVGElement[] {
    for (let minutes = 0; minutes <= HISTORY_MS / MINUTE_MS; minutes++) {
      const anchor = minutes === 0 ? 'end' : 'middle';
      const label = makeSvg('text', { x: xOf(minutes * MINUTE_MS), y: HEIGHT - 4, class: anchor });
      label.textContent = minutes === 0 ? 'now' : `−${minutes} min`;
      if (minutes < HISTORY_MS / MINUTE_MS) this.#plot.append(label);
    }
    return Array.from({ length: STEPS + 1 }, (_, step) => {
      const y = yOf(step / STEPS);
      const label = makeSvg('text', { x: LEFT - 8, y: y + 4, class: 'end live' });
      this.#plot.append(makeSvg('path', { class: 'grid', d: `M${LEFT} ${y}H${WIDTH}` }), label);
      return label;
    });
  }
}

function trace(
  moments: readonly Moment[],
  measure: Line['measure'],
  nowMs: number,
  top: number,
): string {
  let lastMs = Number.NEGATIVE_INFINITY;
  return moments
    .map(({ atMs, rates }) => {
      const value = measure(rates);
      if (value === undefined) return '';
      const command = atMs - lastMs > GAP_MS ? 'M' : 'L';
      lastMs = atMs;
      // A moment by itself is a dot.
      const dot = command === 'M' ? 'h0' : '';
      return `${command}${xOf(nowMs - atMs).toFixed(1)} ${yOf(value / top).toFixed(1)}${dot}`;
    })
    .join('');
}

function xOf(ageMs: number): number {
  return WIDTH - ((WIDTH - LEFT) * ageMs) / HISTORY_MS;
}

function yOf(share: number): number {
  return TOP + (HEIGHT - TOP - BOTTOM) * (1 - share);
}

/** The next number whose quarter is easily read. */
function roundUp(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  const factor = [1, 2, 4, 6, 8].find((one) => one * power >= value) ?? 10;
  return factor * power;
}

function makeSvg(name: string, attributes: Readonly<Record<string, string | number>>): SVGElement {
  const element = document.createElementNS('http://www.w3.org/2000/svg', name) as SVGElement;
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, `${value}`);
  return element;
}
