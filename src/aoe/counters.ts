/** What the server counts about frames that it does not answer, and about its own limits. */
export interface FrameCounters {
  /** Requests that were taken up, whatever became of them. */
  requests: number;
  /** Shorter than the header of AoE, or of an ATA command. */
  malformed: number;
  /** From an address that no single station has, or from ourselves. */
  badSource: number;
  /** For an address that is not served here. */
  notOurs: number;
  /** From an initiator that is not allowed, by configuration or MAC mask list. */
  denied: number;
  /** Waited so long that its initiator has resent it, or is older than the clock can tell. */
  tooOld: number;
  /** Dropped because too many requests were in flight. */
  overload: number;
}

export function newFrameCounters(): FrameCounters {
  return {
    requests: 0,
    malformed: 0,
    badSource: 0,
    notOurs: 0,
    denied: 0,
    tooOld: 0,
    overload: 0,
  };
}
