import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AoeError } from '../../../src/aoe/codec/header.ts';
import {
  decodeMacMaskReply,
  MacMaskCommand,
  MacMaskDirective,
  MacMaskError,
  type MacMaskReply,
} from '../../../src/aoe/codec/mac-mask.ts';
import type { TargetState } from '../../../src/aoe/target-state.ts';
import { placeFrame, readFrame } from '../../support/frames.ts';
import {
  type Answer,
  addresses,
  answer,
  EMPTY_STATE,
  INITIATOR,
  macMaskRequest,
  OTHER,
  padded,
  THIRD,
} from './control.ts';

const { read, edit } = MacMaskCommand;
const { none, add, remove } = MacMaskDirective;

const adding = (mac: number) => ({ command: add, mac });
const removing = (mac: number) => ({ command: remove, mac });
const stateWith = (maskList: readonly number[]): TargetState => ({ ...EMPTY_STATE, maskList });

function replyOf(response: Answer | undefined): MacMaskReply | undefined {
  return response && decodeMacMaskReply(response.view, 0, response.frame.length);
}

describe('MAC mask command', () => {
  it('8. shorter than its argument is met with silence', () => {
    const frame = macMaskRequest(read, []);
    for (let size = 0; size < frame.length; size++) {
      expect(answer(EMPTY_STATE, frame.subarray(0, size))).toBeUndefined();
    }
    expect(answer(EMPTY_STATE, frame)).toBeDefined();
  });

  it('9. padded to 60 bytes is answered as without padding', () => {
    for (const frame of [macMaskRequest(read, []), macMaskRequest(edit, [adding(OTHER)])]) {
      expect(answer(EMPTY_STATE, padded(frame))).toEqual(answer(EMPTY_STATE, frame));
    }
  });

  it('38. read answers with the list', () => {
    const response = answer(stateWith([OTHER, THIRD]), macMaskRequest(read, [])) as Answer;
    expect(response.frame.length).toBe(28 + 2 * 8);
    expect(response.error).toBeUndefined();
    expect(response.next).toBeUndefined();
    expect([...response.frame.subarray(24)]).toEqual([
      ...[0, read, 0, 2],
      ...[0, 0, 2, 0, 0, 0, 0, 0x0a],
      ...[0, 0, 2, 0, 0, 0, 0, 0x0b],
    ]);
  });

  it('38. read does not care for a count', () => {
    const response = answer(stateWith([OTHER]), macMaskRequest(read, [], { says: 255 }));
    expect(replyOf(response)?.maskList).toEqual([OTHER]);
  });

  it('38. edit adds once, and answers with the list: the golden frames', () => {
    const response = answer(EMPTY_STATE, readFrame('mac-mask-edit-request'));
    expect(response?.frame).toEqual(readFrame('mac-mask-edit-response'));
    expect(response?.next).toEqual(stateWith([INITIATOR, OTHER]));
  });

  it('38. edit executes directives in order', () => {
    const directives = [removing(OTHER), adding(OTHER), adding(THIRD), removing(THIRD)];
    const response = answer(stateWith([OTHER, INITIATOR]), macMaskRequest(edit, directives));
    expect(response?.next?.maskList).toEqual([INITIATOR, OTHER]);
    expect(replyOf(response)).toEqual({
      error: 0,
      failedIndex: 0,
      maskList: [INITIATOR, OTHER],
    });
  });

  it('38. edit removes what is not there without complaint', () => {
    const response = answer(stateWith([OTHER]), macMaskRequest(edit, [removing(THIRD)]));
    expect(replyOf(response)).toMatchObject({ error: 0, maskList: [OTHER] });
  });

  it('38. edit with nothing to do answers like read', () => {
    const directives = [{ command: none, mac: THIRD }];
    const response = answer(stateWith([OTHER]), macMaskRequest(edit, directives));
    expect(replyOf(response)?.maskList).toEqual([OTHER]);
    expect(response?.frame[25]).toBe(edit);
  });

  it('39. an unknown directive is told by its index, and those before it are kept', () => {
    const response = answer(stateWith([OTHER]), readFrame('mac-mask-bad-directive-request'));
    expect(response?.frame).toEqual(readFrame('mac-mask-bad-directive-response'));
    expect(response?.error).toBeUndefined();
    expect(response?.next?.maskList).toEqual([OTHER, THIRD]);
    expect(replyOf(response)).toEqual({
      error: MacMaskError.badDirective,
      failedIndex: 1,
      maskList: [],
    });
  });

  it('39. a full list is told by the index of the address too many', () => {
    const directives = [adding(OTHER), adding(THIRD), adding(INITIATOR)];
    const response = answer(stateWith(addresses(253)), macMaskRequest(edit, directives));
    expect(response?.error).toBeUndefined();
    expect(response?.next?.maskList).toEqual([...addresses(253), OTHER, THIRD]);
    expect(replyOf(response)).toEqual({
      error: MacMaskError.listFull,
      failedIndex: 2,
      maskList: [],
    });
  });

  it('39. a full list takes an address that it holds, and another after a removal', () => {
    const full = addresses(255);
    const again = [adding(full[7] as number)];
    expect(replyOf(answer(stateWith(full), macMaskRequest(edit, again)))?.error).toBe(0);
    const swap = [removing(full[7] as number), adding(OTHER)];
    expect(answer(stateWith(full), macMaskRequest(edit, swap))?.next?.maskList).toContain(OTHER);
  });

  it.each([2, 3, 255])('39. mcmd %i is a bad argument', (command) => {
    const response = answer(stateWith([OTHER]), macMaskRequest(command, [adding(THIRD)]));
    expect(response?.error).toBe(AoeError.badArgument);
    expect(response?.next).toBeUndefined();
    expect([...(response?.frame.subarray(24) ?? [])]).toEqual([0, command, 0, 0]);
  });

  it('40. more directives than the frame carries are a bad argument, and nothing is applied', () => {
    const frame = macMaskRequest(edit, [adding(OTHER), adding(THIRD)], { says: 3 });
    const response = answer(EMPTY_STATE, frame);
    expect(response?.error).toBe(AoeError.badArgument);
    expect(response?.next).toBeUndefined();
  });

  it('40. a directive that is cut by one byte is a bad argument', () => {
    const frame = macMaskRequest(edit, [adding(OTHER)]);
    expect(answer(EMPTY_STATE, frame.subarray(0, -1))?.error).toBe(AoeError.badArgument);
  });

  it.each([
    [1500, 185],
    [576, 70],
    [2054, 255],
    [9000, 255],
  ])('42. with MTU %i a full list is answered with %i entries', (mtu, count) => {
    const response = answer(stateWith(addresses(255)), macMaskRequest(read, []), mtu);
    expect(replyOf(response)?.maskList).toEqual(addresses(255).slice(0, count));
    expect((response as Answer).frame.length - 14).toBeLessThanOrEqual(mtu);
  });

  it('42. an address that the response has no room for is stored all the same', () => {
    const response = answer(stateWith(addresses(254)), macMaskRequest(edit, [adding(OTHER)]));
    expect(response?.next?.maskList).toEqual([...addresses(254), OTHER]);
  });
});

describe('MAC mask codec', () => {
  const anyMac = fc.nat(0xffff_ffff).map((low) => 0x0200 * 2 ** 32 + low);
  const anyList = fc.uniqueArray(anyMac, { maxLength: 255 });

  it('a list that was added is the list that is read back', () => {
    fc.assert(
      fc.property(anyList, (list) => {
        const edited = answer(EMPTY_STATE, macMaskRequest(edit, list.map(adding)), 9000);
        expect(edited?.next?.maskList).toEqual(list);
        expect(replyOf(edited)?.maskList).toEqual(list);
        const again = answer(edited?.next as TargetState, macMaskRequest(read, []), 9000);
        expect(replyOf(again)?.maskList).toEqual(list);
      }),
    );
  });

  it('finds every cut of a response, anywhere in a buffer', () => {
    fc.assert(
      fc.property(anyList, fc.nat(), fc.nat(99), (list, cut, at) => {
        const { frame } = answer(stateWith(list), macMaskRequest(read, []), 9000) as Answer;
        const view = placeFrame(frame, at);
        expect(decodeMacMaskReply(view, at, frame.length)?.maskList).toEqual(list);
        expect(decodeMacMaskReply(view, at, cut % frame.length)).toBeUndefined();
      }),
    );
  });

  it('survives any argument; the list holds each address once and stays within its bound', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 1500 }), anyList, (argument, list) => {
        const frame = new Uint8Array(24 + argument.length);
        frame.set(macMaskRequest(read, []).subarray(0, 24));
        frame.set(argument, 24);
        const { maskList } = answer(stateWith(list), frame, 600)?.next ?? EMPTY_STATE;
        expect(maskList.length).toBeLessThanOrEqual(255);
        expect(new Set(maskList).size).toBe(maskList.length);
      }),
    );
  });
});
