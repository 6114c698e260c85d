/** A server as a guide sees it: root's shell on a machine with /etc and /srv of its own. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, symlink, writeFile } from 'node:fs/promises';
import { PROGRAM } from '../cli/run.ts';
import { bootableImage } from '../clients/ipxe.ts';
import { NetworkNamespace, stopChild } from '../support/netns.ts';
import { run, TempDirectory } from '../support/tools.ts';

/** Stands in for systemd, as far as guides use it; the unit is tested elsewhere. */
const SYSTEMCTL = `#!/bin/bash
set -e
config=/etc/aoe-server.toml
pid=$(cat /run/aoe-server.pid 2>/dev/null || true)
stop() {
  [ -z "$pid" ] || { kill "$pid"; tail -s 0.1 --pid="$pid" -f /dev/null; }
  rm -f /run/aoe-server.pid
}
start() {
  : >/run/aoe-server.log
  aoe-server $config >/dev/null 2>>/run/aoe-server.log </dev/null &
  echo $! >/run/aoe-server.pid
  for attempt in {1..100}; do
    grep -q '"serving' /run/aoe-server.log && return
    sleep 0.1
  done
  cat /run/aoe-server.log
  exit 1
}
case "$*" in
  "start aoe-server" | "enable --now aoe-server") start ;;
  "stop aoe-server") stop ;;
  "restart aoe-server") stop; start ;;
  "reload aoe-server") aoe-server reload $config ;;
  *) echo "systemctl $*: no guide needs that"; exit 1 ;;
esac
`;

/** Prepares the machine and runs each script of standard input, by its path. */
const SHELL = `
set -e
mount --make-rprivate /
for place in etc var; do
  mkdir -p "$0/$place-new" "$0/$place-work"
  mount -t overlay -o "lowerdir=/$place,upperdir=$0/$place-new,workdir=$0/$place-work" overlay /$place
done
mkdir -p "$0/srv/aoe" "$0/run"
mount --bind "$0/srv" /srv
mount --bind "$0/run" /run
export PATH="$0/bin:$PATH"
cd "$0"
echo ready
while read -r script; do
  bash -e "$script" >"$script.out" 2>&1 </dev/null && echo 0 || echo $?
done
`;

export class Machine implements AsyncDisposable {
  readonly network: NetworkNamespace;
  readonly #directory: TempDirectory;
  readonly #shell: ChildProcess;
  #scriptCount = 0;

  private constructor(network: NetworkNamespace, directory: TempDirectory, shell: ChildProcess) {
    this.network = network;
    this.#directory = directory;
    this.#shell = shell;
  }

  static async boot(): Promise<Machine> {
    const network = await NetworkNamespace.create();
    const directory = await TempDirectory.create();
    await mkdir(directory.join('bin'));
    await chmod(PROGRAM, 0o755);
    await symlink(PROGRAM, directory.join('bin/aoe-server'));
    await writeFile(directory.join('bin/systemctl'), SYSTEMCTL, { mode: 0o755 });
    await writeFile(directory.join('installed.img'), bootableImage());
    // All that is started in it ends with it.
    const own = ['--mount', '--pid', '--fork', '--mount-proc', '--kill-child'];
    const args = [...own, 'bash', '-c', SHELL, directory.path];
    const shell = network.spawn('unshare', args, { stdio: ['pipe', 'pipe', 'inherit'] });
    const machine = new Machine(network, directory, shell);
    await machine.#line();
    return machine;
  }

  async writeConfig(text: string): Promise<void> {
    await this.run(`cat >/etc/aoe-server.toml <<'END'\n${text}END`);
  }

  /** @returns what it printed; @throws {Error} with that, when its status is not 0 */
  async run(script: string): Promise<string> {
    this.#scriptCount += 1;
    const path = this.#directory.join(`script-${this.#scriptCount}`);
    await writeFile(path, script);
    this.#shell.stdin?.write(`${path}\n`);
    const status = await this.#line();
    const output = await run('cat', [`${path}.out`]);
    if (status !== '0') throw new Error(`${script}\nstatus ${status}\n${output}`);
    return output;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await stopChild(this.#shell, 'SIGKILL');
    await this.network[Symbol.asyncDispose]();
    await this.#directory[Symbol.asyncDispose]();
  }

  async #line(): Promise<string> {
    const stdout = this.#shell.stdout;
    if (stdout === null) throw new Error('the machine has no standard output');
    const [line] = (await once(stdout, 'data', { signal: AbortSignal.timeout(60_000) })) as [
      Buffer,
    ];
    return line.toString().trim();
  }
}
