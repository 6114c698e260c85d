import type { Command } from 'commander';
import { addListCommand } from './list-command.ts';

/** Shows and overrides the MAC mask list of a target. */
export function addMaskCommand(program: Command): void {
  addListCommand(program, {
    name: 'mask',
    description: 'show or override which initiators a target answers (its MAC mask list)',
    path: 'mask-list',
    key: 'maskList',
    clearHelp: 'let the target answer any initiator',
    setHelp: 'let the target answer these initiators only',
    describe: (target, list) =>
      list.length === 0
        ? `${target} answers any initiator`
        : `${target} answers ${list.join(', ')} only`,
  });
}
