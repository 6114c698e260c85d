/** Elements: made, found, and brought up to date without disturbing who reads or uses them. */

/** The element of the page with this id. */
export function find<T extends HTMLElement = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no ${id}`);
  return found as T;
}

/** Makes an element. */
export function make<K extends keyof HTMLElementTagNameMap>(
  name: K,
  properties: Partial<HTMLElementTagNameMap[K]> = {},
  ...children: readonly (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

export function makeButton(label: string, subject: string, onClick: () => void): HTMLButtonElement {
  const button = make('button', { type: 'button', textContent: label });
  // Out of its row, a label alone does not tell what it is about.
  button.ariaLabel = `${label} ${subject}`;
  button.addEventListener('click', onClick);
  return button;
}

/** Sets the text, when it is another: unchanged text stays selected and is not read out again. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

export interface Cell {
  readonly text: string;
  /** A second, quieter line. */
  readonly detail?: string;
  readonly className?: string;
}

export interface Row {
  readonly key: string;
  readonly className?: string;
  /** The first one is the head of the row. */
  readonly cells: readonly Cell[];
}

/** Makes the body of a table show `rows`. Those that stay keep their elements. */
export function fillRows(table: HTMLElement, rows: readonly Row[]): void {
  const body = table.querySelector('tbody') as HTMLElement;
  fill(body, rows, ({ key }) => key, makeRow, updateRow);
}

function makeRow({ cells }: Row): HTMLTableRowElement {
  const heads = cells.map((_, index) =>
    index === 0 ? make('th', { scope: 'row' }, make('span')) : make('td', {}, make('span')),
  );
  return make('tr', {}, ...heads);
}

function updateRow(row: HTMLElement, { className = '', cells }: Row): void {
  row.className = className;
  for (const [index, cell] of cells.entries()) {
    const element = row.children[index] as HTMLElement;
    element.className = cell.className ?? '';
    setText(element.children[0] as Element, cell.text);
    if (element.children[1] === undefined && cell.detail !== undefined) {
      element.append(make('small'));
    }
    if (element.children[1] !== undefined) setText(element.children[1], cell.detail ?? '');
  }
}

/** Makes `parent` have one child for each item, in their order. Those that stay are kept. */
export function fill<Item>(
  parent: HTMLElement,
  items: readonly Item[],
  keyOf: (item: Item) => string,
  create: (item: Item) => HTMLElement,
  update: (child: HTMLElement, item: Item) => void,
): void {
  const kept = new Map(Array.from(parent.children, (child) => [keyIn(child), child]));
  const children = items.map((item) => {
    const child = (kept.get(keyOf(item)) as HTMLElement | undefined) ?? create(item);
    child.dataset['key'] = keyOf(item);
    update(child, item);
    return child;
  });
  for (const [index, child] of children.entries()) {
    if (parent.children[index] !== child)
      parent.insertBefore(child, parent.children[index] ?? null);
  }
  while (parent.children.length > children.length) parent.lastElementChild?.remove();
}

function keyIn(child: Element): string | undefined {
  return (child as HTMLElement).dataset['key'];
}
