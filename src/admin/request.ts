/** What is said between a listener and those who answer. */

/** A request that is refused; the program shows `message` and `remedy` to people. */
export class RequestError extends Error {
  /** The HTTP status. */
  readonly status: number;
  readonly remedy: string;

  constructor(status: number, message: string, remedy = 'docs/CONTROL.md tells what can be asked') {
    super(message);
    this.status = status;
    this.remedy = remedy;
  }
}

export interface Reply {
  /** The HTTP status. */
  readonly status: number;
  /** The content type. */
  readonly type: string;
  readonly text: string;
}
