/**
 * Keeps links open over everything that happens to their interfaces: down and up, another MTU or
 * MAC address, made part of a bridge, removed and made again. A link is never changed, only closed
 * and opened anew; it stays open while its interface has no carrier.
 *
 * Invariants: a link is open exactly while its interface was up when last looked at, and was
 * opened for the interface as it was then. One that could not be opened is tried again and again.
 * An interface has one link, under however many of its names it is to be served.
 */
import type { Logger } from 'pino';
import { StartupError } from '../core/startup-error.ts';
import { type InterfaceWatch, native } from '../native.ts';
import { type InterfaceState, readInterfaceState } from './interface-state.ts';
import type { Link } from './link.ts';

/** What keeps a link from being opened, such as a lack of memory, may end without a word. */
const RETRY_MS = 2000;

export interface LinkSupervisorOptions<L extends Link> {
  readonly interfaces: readonly string[];
  /** @throws {StartupError} the interface cannot be used */
  open(name: string): L;
  /** Begins to use a link that was opened. */
  use(link: L): void;
  /** What was sent on a link until now may have reached nobody: its interface had no carrier. */
  onConnected(link: L): void;
  readonly log: Logger;
}

interface Supervised<L> {
  readonly name: string;
  link: L | undefined;
  state: InterfaceState | undefined;
  /** Why it could not be opened. */
  failure: Error | undefined;
}

export class LinkSupervisor<L extends Link> {
  readonly #options: LinkSupervisorOptions<L>;
  readonly #supervised: Supervised<L>[] = [];
  #watch: InterfaceWatch | undefined;
  #retry: NodeJS.Timeout | undefined;

  constructor(options: LinkSupervisorOptions<L>) {
    this.#options = options;
  }

  /** The links that are open now. */
  get links(): L[] {
    return this.#supervised.flatMap(({ link }) => link ?? []);
  }

  /**
   * Opens the links, and watches their interfaces from then on. One that cannot be used now is
   * taken up when it can.
   *
   * @throws {StartupError} no interface can be used
   */
  start(): void {
    // Watched first, so that no change is missed; the callback runs after this function.
    this.#watch = new native.InterfaceWatch(() => this.#look());
    for (const name of this.#options.interfaces) {
      const supervised = { name, link: undefined, state: undefined, failure: undefined };
      this.#supervised.push(supervised);
      this.#open(supervised, readInterfaceState(name));
    }
    const failures = this.#supervised.flatMap(({ failure }) => failure ?? []);
    if (this.links.length === 0) throw failures[0];
    for (const failure of failures) this.#options.log.error(failure);
    this.#retry = setInterval(() => this.#followClosed(), RETRY_MS).unref();
  }

  /** Ends receiving on all links; they can still send. */
  stopReceiving(): void {
    this.#watch?.close();
    clearInterval(this.#retry);
    for (const link of this.links) link.stopReceiving();
  }

  close(): void {
    this.stopReceiving();
    for (const link of this.links) link.close();
  }

  #look(): void {
    this.#watch?.drain();
    for (const supervised of this.#supervised) this.#follow(supervised);
  }

  #followClosed(): void {
    for (const supervised of this.#supervised) {
      if (supervised.link === undefined) this.#follow(supervised);
    }
  }

  #follow(supervised: Supervised<L>): void {
    const { name, failure: lastFailure } = supervised;
    const { log } = this.#options;
    const state = readInterfaceState(name);
    if (supervised.link !== undefined && isSame(state, supervised.state)) {
      this.#followCarrier(supervised, supervised.link, state?.connected ?? false);
      return;
    }
    if (supervised.link !== undefined) {
      log.warn(
        { interface: name, ...state },
        state?.up ? 'interface changed' : 'interface is down',
      );
      supervised.link.close();
      supervised.link = undefined;
    }
    supervised.state = state;
    if (!state?.up) return;
    this.#open(supervised, state);
    const { failure } = supervised;
    if (failure === undefined || failure.message === lastFailure?.message) return;
    log.error(failure, `interface ${name} cannot be used`);
  }

  #followCarrier(supervised: Supervised<L>, link: L, connected: boolean): void {
    const { name, state } = supervised;
    if (state === undefined || state.connected === connected) return;
    supervised.state = { ...state, connected };
    if (connected) {
      this.#options.log.info({ interface: name }, 'interface is connected');
      this.#options.onConnected(link);
    } else {
      this.#options.log.warn({ interface: name }, 'interface is not connected');
    }
  }

  #open(supervised: Supervised<L>, state: InterfaceState | undefined): void {
    supervised.state = state;
    supervised.failure = undefined;
    try {
      this.#refuseOtherName(supervised.name, state);
      supervised.link = this.#options.open(supervised.name);
    } catch (error) {
      supervised.failure = error as Error;
      return;
    }
    this.#options.use(supervised.link);
    if (state?.master === undefined) return;
    this.#options.log.warn(
      { interface: supervised.name, master: state.master },
      'interface is part of a bridge or bond, which gets its requests: name that instead',
    );
  }

  /** @throws {StartupError} each request would be executed, and answered, once for each name */
  #refuseOtherName(name: string, state: InterfaceState | undefined): void {
    const other = this.#supervised.find((one) => one.link && one.state?.index === state?.index);
    if (other === undefined) return;
    throw new StartupError(
      `${name} is another name of ${other.name}, which is served already`,
      'name each interface once',
    );
  }
}

/** Can a link that was opened for `b` be used for `a`? */
function isSame(a: InterfaceState | undefined, b: InterfaceState | undefined): boolean {
  return (
    a?.index === b?.index &&
    a?.mtu === b?.mtu &&
    a?.mac === b?.mac &&
    a?.up === b?.up &&
    a?.master === b?.master
  );
}
