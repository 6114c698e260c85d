/** Every fixed maximum of the data path, with its reason. */
export const Limits = {
  /**
   * Largest MTU that is used, in bytes. Jumbo frames of 9000 carry 8 KiB and a header; more
   * brings nothing measurable and would make every request slot bigger.
   */
  mtuMax: 9216,
  /** Bytes of memory a request owns: one frame, in whole pages. */
  requestSlotBytes: 12_288,
  /** Requests in flight over all targets: what bounds memory when storage stalls. */
  requestCount: 1024,
  /** Targets of one server. */
  targetCount: 1024,
  /** Requests in flight on one target: a stalled one leaves room for the others. */
  requestsPerTarget: 256,
  /**
   * Requests in flight on one target for each that is free: when several stall, as all on one file
   * server do, there is room for the others.
   */
  requestsPerFreeOne: 2,
  /** Receive ring of one interface, in bytes: 16 initiators with 64 jumbo frames each. */
  receiveRingBytes: 16 << 20,
  /** Frames taken from a ring in one step. */
  batchFrames: 64,
  /** A frame that waited longer than this is not taken up: its initiator has resent it. */
  frameAgeMsMax: 2000,
} as const;
