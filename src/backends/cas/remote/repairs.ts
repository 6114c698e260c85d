/**
 * Repairs of what is stored: each is done at the beginning of a round, and has come about when that
 * round ends well. It is not tried again; who has asked for it is told once, either way.
 */
interface Repair {
  readonly work: () => Promise<boolean>;
  readonly done: (isRepaired: boolean) => void;
}

export class Repairs {
  readonly #waiting: Repair[] = [];

  /** Takes up a repair for the next round. @returns whether it has come about */
  add(work: () => Promise<boolean>): Promise<boolean> {
    return new Promise((done) => {
      this.#waiting.push({ work, done });
    });
  }

  /** Makes those that wait, and then the rest of a round. */
  async before(rest: () => Promise<void>): Promise<void> {
    const repairs = this.#waiting.splice(0);
    const outcomes: boolean[] = [];
    let isDone = false;
    try {
      for (const { work } of repairs) outcomes.push(await work());
      await rest();
      isDone = true;
    } finally {
      repairs.forEach(({ done }, i) => {
        done(isDone && outcomes[i] === true);
      });
    }
  }

  /** No round follows. */
  refuse(): void {
    for (const { done } of this.#waiting.splice(0)) done(false);
  }
}
