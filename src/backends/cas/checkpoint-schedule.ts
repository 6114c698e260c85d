/**
 * Decides when a store makes a checkpoint by itself: after so much log, so many changed nodes, or
 * so much time, and while there is room for one.
 */
export interface CheckpointScheduleOptions {
  readonly checkpointBytes: number;
  readonly checkpointNodes: number;
  /** 0 for never. */
  readonly checkpointMs: number;
  onFailed(error: Error): void;
}

/** When so much of the next one is due the one under way makes haste: it should end before that. */
const HASTE_SHARE = 0.5;

export class CheckpointSchedule {
  readonly #options: CheckpointScheduleOptions;
  readonly #checkpoint: (isUrgent: () => boolean) => Promise<void>;
  /** Log since the last checkpoint began. */
  #logBytes = 0;
  #timer: NodeJS.Timeout | undefined;
  #isRunning = false;
  /** Must the one under way make haste? */
  #isUrgent = false;
  /** Is another one due when the one under way has ended? */
  #isNextDue = false;
  #isClosed = false;
  /** The checkpoint under way, or the last one. */
  #running: Promise<void> = Promise.resolve();

  constructor(
    options: CheckpointScheduleOptions,
    checkpoint: (isUrgent: () => boolean) => Promise<void>,
  ) {
    this.#options = options;
    this.#checkpoint = checkpoint;
  }

  /**
   * Takes notice of a record of the log.
   *
   * @param changedCount nodes of all maps that were changed since the last checkpoint began
   * @param isScarce is there just room for them?
   */
  logged(length: number, changedCount: number, isScarce: boolean): void {
    this.#logBytes += length;
    const { checkpointBytes, checkpointNodes, checkpointMs } = this.#options;
    const dueShare = Math.max(this.#logBytes / checkpointBytes, changedCount / checkpointNodes);
    this.#isUrgent ||= dueShare >= HASTE_SHARE;
    if (dueShare >= 1 || isScarce) {
      this.start();
    } else if (checkpointMs > 0) {
      this.#timer ??= setTimeout(() => this.start(), checkpointMs).unref();
    }
  }

  /** Takes notice of a checkpoint that covers all of the log. */
  begun(): void {
    this.#logBytes = 0;
    this.#isUrgent = this.#isClosed;
    this.#isNextDue = false;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** Starts nothing more, and waits for what runs. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#isUrgent = true;
    clearTimeout(this.#timer);
    await this.#running;
  }

  /** Makes one now; if one is under way it makes haste, and the next one follows it. */
  start(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#isNextDue = this.#isRunning;
    this.#isUrgent = this.#isRunning || this.#isClosed;
    if (this.#isUrgent) return;
    this.#isRunning = true;
    // Without room for nodes the log just grows; the next attempt may find some.
    this.#running = this.#checkpoint(() => this.#isUrgent)
      .catch((error: Error) => this.#options.onFailed(error))
      .finally(() => {
        this.#isRunning = false;
        if (this.#isNextDue) this.start();
      });
  }
}
