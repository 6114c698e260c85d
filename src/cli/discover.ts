import { Command } from 'commander';

/** Lists the targets that answer on an interface. */
export function discoverCommand(): Command {
  return new Command('discover')
    .description('list the targets that answer on an interface')
    .argument('[interface]', 'network interface')
    .action(() => {
      throw new Error('discover is not available in this version');
    });
}
