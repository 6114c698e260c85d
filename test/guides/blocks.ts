/**
 * The commands of a guide. What stands behind the language of a fenced block says where it runs;
 * readers do not see it:
 *
 *     sh server         on the server; "server2" is another one
 *     sh client         on a Linux host on the same segment
 *     toml server       the server's /etc/aoe-server.toml
 *     ipxe client       by the boot firmware of a machine without a disk
 *     text              what the block before it prints, in any amount of space
 *     sh not run: why   nowhere
 */
export interface Block {
  readonly language: string;
  /** `not run: ...` too. */
  readonly place: string;
  readonly text: string;
  /** In the guide's file. */
  readonly line: number;
}

const LANGUAGES = ['sh', 'toml', 'ipxe', 'text', 'ini'];

/** @throws {Error} a block does not say where it runs */
export function parseBlocks(guide: string): Block[] {
  const blocks: Block[] = [];
  for (const match of guide.matchAll(/^```(\w*) ?(.*)\n([\s\S]*?)^```$/gm)) {
    const [, language = '', place = '', text = ''] = match;
    const line = guide.slice(0, match.index).split('\n').length;
    const isPlaced = /^(server|server2|client|not run: .{10,})$/.test(place);
    if (!LANGUAGES.includes(language) || (language !== 'text' && !isPlaced)) {
      throw new Error(`line ${line}: the block does not say where it runs`);
    }
    blocks.push({ language, place, text, line });
  }
  return blocks;
}

/** Whether each line of `expected` is in `output`; digits that differ from run to run are `N`. */
export function missingLines(expected: string, output: string): string[] {
  const squeeze = (text: string) => text.replace(/[ \t]+/g, ' ').trim();
  const shown = squeeze(output);
  return expected
    .split('\n')
    .map(squeeze)
    .filter((line) => line !== '' && !new RegExp(patternOf(line)).test(shown));
}

function patternOf(line: string): string {
  return line.replace(/[.*+?^${}()|[\]\\]/g, '\\$&').replace(/\bN\b/g, '[\\d.]+');
}
