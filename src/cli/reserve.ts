import type { Command } from 'commander';
import { addListCommand } from './list-command.ts';

/** Shows and overrides the reserve list of a target. */
export function addReserveCommand(program: Command): void {
  addListCommand(program, {
    name: 'reserve',
    description: 'show or override who holds the reservation of a target (its reserve list)',
    path: 'reserve-list',
    key: 'reserveList',
    clearHelp: 'release the target, whoever holds it',
    setHelp: 'reserve the target for these initiators, whoever holds it',
    describe: (target, list) =>
      list.length === 0
        ? `${target} is not reserved`
        : `${target} is reserved for ${list.join(', ')}`,
  });
}
