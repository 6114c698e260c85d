/** The man(7) language, as far as the manual needs it. All text that comes in is plain. */

const LINE_COLUMNS_MAX = 80;

/** Text that is shown as it is, whatever roff would read into it. */
export function escapeText(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll('^', '\\(ha')
    .replaceAll('~', '\\(ti')
    .replace(/^[.']/gm, '\\&$&');
}

/** Words in bold, to be written as they are shown. */
export function bold(text: string): string {
  return `\\fB${escapeText(text)}\\fR`;
}

/** Words in italics, to be replaced. */
export function italic(text: string): string {
  return `\\fI${escapeText(text)}\\fR`;
}

export function section(title: string): string {
  return `.SH ${quote(title.toUpperCase())}`;
}

export function subsection(title: string): string {
  return `.SS ${quote(title)}`;
}

/** Text that is filled; `markup` may hold what {@link bold} and {@link italic} return. */
export function paragraph(markup: string): string {
  return `.PP\n${markup}`;
}

/** A term and, indented below it, what is said about it. */
export function item(term: string, ...markup: readonly string[]): string {
  return [`.TP\n${term}`, ...markup].join('\n');
}

/** Lines that keep their breaks and spaces. */
export function literal(lines: readonly string[]): string {
  return ['.PP', '.RS 4', '.nf', ...lines.map(escapeText), '.fi', '.RE'].join('\n');
}

/** A whole page. `section` is a number of the manual. */
export function page(
  name: string,
  section: number,
  { version, date }: Release,
  parts: readonly string[],
): string {
  const names = [name.toUpperCase(), `${section}`].map(quote).join(' ');
  const title = `.TH ${names} "${date}" ${quote(`aoe-server ${version}`)}`;
  // A heading begins a paragraph of its own, and says so when it is told once more.
  const text = parts.join('\n').replace(/^(\.S[HS] .*\n)\.PP\n/gm, '$1');
  return `${[title, '.nh', '.ad l', ...wrapLines(text.split('\n'))].join('\n')}\n`;
}

/** What a page is about. */
export interface Release {
  readonly version: string;
  /** Of the page: YYYY-MM-DD. */
  readonly date: string;
}

/** Breaks lines of filled text where they become too long to be edited, as linters see it. */
function wrapLines(lines: readonly string[]): string[] {
  let isLiteral = false;
  return lines.flatMap((line) => {
    if (line === '.nf' || line === '.fi') isLiteral = line === '.nf';
    return isLiteral || line.startsWith('.') ? line : wrapLine(line);
  });
}

function wrapLine(line: string): string[] {
  const lines: string[] = [];
  let current = '';
  for (const word of line.split(' ')) {
    if (current !== '' && current.length + 1 + word.length > LINE_COLUMNS_MAX) {
      lines.push(current);
      current = /^[.']/.test(word) ? `\\&${word}` : word;
    } else {
      current = current === '' ? word : `${current} ${word}`;
    }
  }
  return [...lines, current];
}

function quote(text: string): string {
  return `"${escapeText(text).replaceAll('"', '\\(dq')}"`;
}
