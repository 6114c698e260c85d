/** What the server counts about frames that it does not answer, and about its own limits. */
export class FrameCounters {
  /** Requests that were taken up, whatever became of them. */
  requests = 0;
  /** Shorter than the header of AoE, or of an ATA command. */
  malformed = 0;
  /** From an address that no single station has, or from ourselves. */
  badSource = 0;
  /** For an address that is not served here. */
  notOurs = 0;
  /** From an initiator that is not allowed, by configuration or MAC mask list. */
  denied = 0;
  /** Waited so long that its initiator has resent it, or is older than the clock can tell. */
  tooOld = 0;
  /** Dropped because too many requests were in flight. */
  overload = 0;
}
