import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AoeError } from '../../../src/aoe/codec/header.ts';
import {
  isReservedAgainst,
  ReserveCommand,
  readReserveList,
} from '../../../src/aoe/codec/reserve-release.ts';
import type { TargetState } from '../../../src/aoe/target-state.ts';
import { placeFrame, readFrame } from '../../support/frames.ts';
import {
  type Answer,
  addresses,
  answer,
  EMPTY_STATE,
  INITIATOR,
  OTHER,
  padded,
  reserveRequest,
  THIRD,
} from './control.ts';

const { read, set, forceSet } = ReserveCommand;

const stateWith = (list: readonly number[]): TargetState => ({ ...EMPTY_STATE, reserveList: list });
const HELD_BY_OTHER = stateWith([OTHER]);
const HELD = stateWith([INITIATOR, OTHER]);

function listIn(response: Answer | undefined): number[] | undefined {
  return response && readReserveList(response.view, 0, response.frame.length);
}

describe('reserve command', () => {
  it('8. shorter than its argument is met with silence', () => {
    const frame = reserveRequest(read, []);
    for (let size = 0; size < frame.length; size++) {
      expect(answer(EMPTY_STATE, frame.subarray(0, size))).toBeUndefined();
    }
    expect(answer(EMPTY_STATE, frame)).toBeDefined();
  });

  it('9. padded to 60 bytes is answered as without padding', () => {
    for (const frame of [reserveRequest(read, []), reserveRequest(set, [INITIATOR])]) {
      expect(answer(EMPTY_STATE, padded(frame))).toEqual(answer(EMPTY_STATE, frame));
    }
  });

  it('43. read answers with the list', () => {
    const response = answer(HELD_BY_OTHER, reserveRequest(read, [], { says: 9 })) as Answer;
    expect(response.frame.length).toBe(26 + 6);
    expect([...response.frame.subarray(24)]).toEqual([read, 1, 2, 0, 0, 0, 0, 0x0a]);
    expect(response.error).toBeUndefined();
    expect(response.next).toBeUndefined();
  });

  it('43. set reserves a free target: the golden frames', () => {
    const response = answer(EMPTY_STATE, readFrame('reserve-set-request'));
    expect(response?.frame).toEqual(readFrame('reserve-set-response'));
    expect(response?.next).toEqual(HELD);
  });

  it('43. set by a holder replaces the list', () => {
    const response = answer(HELD, reserveRequest(set, [THIRD]));
    expect(listIn(response)).toEqual([THIRD]);
    expect(response?.next).toEqual(stateWith([THIRD]));
  });

  it('43. set by another is refused, and the holders told: the golden frames', () => {
    const response = answer(HELD_BY_OTHER, readFrame('reserve-set-request'));
    expect(response?.frame).toEqual(readFrame('reserve-refused'));
    expect(response?.error).toBe(AoeError.targetReserved);
    expect(response?.next).toBeUndefined();
  });

  it('43. force set replaces the list, whoever holds it', () => {
    const response = answer(HELD_BY_OTHER, reserveRequest(forceSet, [INITIATOR]));
    expect(response?.error).toBeUndefined();
    expect(response?.next).toEqual(stateWith([INITIATOR]));
  });

  it.each([
    [set, HELD],
    [forceSet, HELD_BY_OTHER],
  ])('43. rcmd %i with no address releases', (command, state) => {
    const response = answer(state, reserveRequest(command, []));
    expect(response?.frame.length).toBe(26);
    expect(response?.next).toEqual(EMPTY_STATE);
  });

  it('43. set with no address by another releases nothing', () => {
    const response = answer(HELD_BY_OTHER, reserveRequest(set, []));
    expect(response?.error).toBe(AoeError.targetReserved);
    expect(response?.next).toBeUndefined();
  });

  it.each([3, 4, 255])('43. rcmd %i is a bad argument', (command) => {
    const response = answer(HELD_BY_OTHER, reserveRequest(command, [INITIATOR]));
    expect(response?.error).toBe(AoeError.badArgument);
    expect(response?.next).toBeUndefined();
    expect(listIn(response)).toEqual([OTHER]);
  });

  it.each([set, forceSet])(
    '43. rcmd %i with fewer addresses than it says is a bad argument',
    (command) => {
      const long = answer(HELD, reserveRequest(command, [THIRD], { says: 2 }));
      expect(long?.error).toBe(AoeError.badArgument);
      expect(long?.next).toBeUndefined();
      const cut = answer(HELD, reserveRequest(command, [THIRD]).subarray(0, -1));
      expect(cut?.error).toBe(AoeError.badArgument);
      expect(cut?.next).toBeUndefined();
    },
  );

  it.each([
    [1500, 248],
    [1542, 255],
    [9000, 255],
  ])('with MTU %i a full list is answered with %i addresses', (mtu, count) => {
    const response = answer(stateWith(addresses(255)), reserveRequest(read, []), mtu);
    expect(listIn(response)).toEqual(addresses(255).slice(0, count));
  });

  it('44. keeps out whoever is not in the list, unless it is empty', () => {
    expect(isReservedAgainst(EMPTY_STATE, INITIATOR)).toBe(false);
    expect(isReservedAgainst(HELD, INITIATOR)).toBe(false);
    expect(isReservedAgainst(HELD, OTHER)).toBe(false);
    expect(isReservedAgainst(HELD_BY_OTHER, INITIATOR)).toBe(true);
  });
});

describe('reserve codec', () => {
  const anyMac = fc.nat(0xffff_ffff).map((low) => 0x0200 * 2 ** 32 + low);
  const anyList = fc.array(anyMac, { maxLength: 255 });

  it('a list that was set is the list that is read back', () => {
    fc.assert(
      fc.property(anyList, (list) => {
        const response = answer(EMPTY_STATE, reserveRequest(set, list), 9000);
        expect(response?.next?.reserveList).toEqual(list);
        expect(listIn(response)).toEqual(list);
      }),
    );
  });

  it('finds every cut of a response, anywhere in a buffer', () => {
    fc.assert(
      fc.property(anyList, fc.nat(), fc.nat(99), (list, cut, at) => {
        const { frame } = answer(stateWith(list), reserveRequest(read, []), 9000) as Answer;
        const view = placeFrame(frame, at);
        expect(readReserveList(view, at, frame.length)).toEqual(list);
        expect(readReserveList(view, at, cut % frame.length)).toBeUndefined();
      }),
    );
  });

  it('survives any argument', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 1500 }), anyList, (argument, list) => {
        const frame = new Uint8Array(24 + argument.length);
        frame.set(reserveRequest(read, []).subarray(0, 24));
        frame.set(argument, 24);
        const response = answer(stateWith(list), frame, 600);
        expect(response === undefined).toBe(argument.length < 2);
      }),
    );
  });
});
