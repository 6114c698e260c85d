import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  ConfigCommand,
  decodeConfigReply,
  executeConfig,
  writeConfigReply,
  writeConfigRequest,
} from '../../../src/aoe/codec/config-query.ts';
import { Aoe, AoeError } from '../../../src/aoe/codec/header.ts';
import type { TargetState } from '../../../src/aoe/target-state.ts';
import { placeFrame, readFrame } from '../../support/frames.ts';
import {
  type Answer,
  answer,
  bytes,
  CONFIG_FIELDS,
  configRequest,
  EMPTY_STATE,
  OTHER,
  padded,
} from './control.ts';

const { read, test, prefix, set, forceSet } = ConfigCommand;

const stateWith = (text: string | Uint8Array): TargetState => ({
  ...EMPTY_STATE,
  configString: typeof text === 'string' ? bytes(text) : text,
});

const HELLO = stateWith('hello');

function stringIn(response: Answer | undefined): string | undefined {
  if (response === undefined) return undefined;
  const reply = decodeConfigReply(response.view, 0, response.frame.length);
  return reply && Buffer.from(reply.configString).toString();
}

describe('config command', () => {
  it('8. shorter than its argument is met with silence', () => {
    const frame = configRequest(read, '');
    for (let size = 0; size < frame.length; size++) {
      expect(answer(HELLO, frame.subarray(0, size))).toBeUndefined();
    }
    expect(answer(HELLO, frame)).toBeDefined();
  });

  it.each([
    [read, ''],
    [test, 'hello'],
    [prefix, 'hel'],
    [set, 'hello'],
    [forceSet, 'new'],
    [9, ''],
  ])('9. padded to 60 bytes is answered as without padding: ccmd %i', (command, text) => {
    const frame = configRequest(command, text);
    expect(answer(HELLO, padded(frame))).toEqual(answer(HELLO, frame));
  });

  it('9. padding does not become part of a string', () => {
    const response = answer(EMPTY_STATE, padded(configRequest(set, 'abc')));
    expect(response?.next?.configString).toEqual(bytes('abc'));
  });

  it('30. read answers the same with length 0, with 1024 bytes, and with 1024 that are not there', () => {
    const plain = answer(HELLO, configRequest(read, ''));
    expect(answer(HELLO, configRequest(read, new Uint8Array(1024).fill(0xed)))).toEqual(plain);
    expect(answer(HELLO, configRequest(read, '', { says: 1024 }))).toEqual(plain);
    expect(stringIn(plain)).toBe('hello');
  });

  it.each([0, 1, 2, 15])(
    '30. read does not care for version nibble %i of its argument',
    (version) => {
      const frame = configRequest(read, '');
      const plain = answer(HELLO, frame);
      frame[29] = version << 4;
      expect(answer(HELLO, frame)).toEqual(plain);
    },
  );

  it('31. the response to a Linux initiator is the golden one', () => {
    const response = answer(HELLO, readFrame('config-read-request'));
    expect(response?.frame).toEqual(readFrame('config-read-response'));
  });

  it.each([read, test, prefix, set, forceSet])(
    '31. the response tells version 1, ccmd %i, buffer count and sector count',
    (command) => {
      const { view, frame } = answer(HELLO, configRequest(command, 'hello')) as Answer;
      expect(frame.length).toBe(32 + 5);
      expect(view.getUint8(29)).toBe(0x10 | command);
      expect(decodeConfigReply(view, 0, frame.length)).toEqual({
        ...CONFIG_FIELDS,
        configString: bytes('hello'),
      });
    },
  );

  it.each([
    ['hello', 'hello', true],
    ['hello', 'hell', false],
    ['hello', 'hello!', false],
    ['hello', 'hellO', false],
    ['hello', '', false],
    ['', '', true],
    ['', 'x', false],
  ])('32. test of %j with %j is answered: %s', (stored, given, answered) => {
    expect(stringIn(answer(stateWith(stored), configRequest(test, given)))).toBe(
      answered ? stored : undefined,
    );
  });

  it.each([
    ['hello', 'hello', true],
    ['hello', 'he', true],
    ['hello', '', true],
    ['', '', true],
    ['hello', 'hello!', false],
    ['hello', 'ha', false],
    ['', 'x', false],
  ])('32. prefix test of %j with %j is answered: %s', (stored, given, answered) => {
    expect(stringIn(answer(stateWith(stored), configRequest(prefix, given)))).toBe(
      answered ? stored : undefined,
    );
  });

  it('33. set stores a string where there is none', () => {
    const response = answer(EMPTY_STATE, configRequest(set, 'mine'));
    expect(response?.error).toBeUndefined();
    expect(stringIn(response)).toBe('mine');
    expect(response?.next).toEqual(stateWith('mine'));
  });

  it('33. set of the string that is stored succeeds and changes nothing', () => {
    const response = answer(HELLO, configRequest(set, 'hello'));
    expect(response?.error).toBeUndefined();
    expect(response?.next).toEqual(HELLO);
    expect(stringIn(response)).toBe('hello');
  });

  it.each(['other', ''])('33. set of %j over a string is refused, and the string told', (given) => {
    const response = answer(HELLO, configRequest(set, given));
    expect(response?.error).toBe(AoeError.configStringPresent);
    expect(response?.next).toBeUndefined();
    expect(stringIn(response)).toBe('hello');
  });

  it('33. a refused set is answered by the golden frame', () => {
    const response = answer(HELLO, readFrame('config-set-request'));
    expect(response?.frame).toEqual(readFrame('config-set-refused'));
  });

  it.each([1, 5, 1024])('34. force set stores a string of %i bytes', (length) => {
    const string = new Uint8Array(length).map((_, index) => index * 7);
    const response = answer(HELLO, configRequest(forceSet, string));
    expect(response?.next?.configString).toEqual(string);
    expect(response?.frame.subarray(32)).toEqual(string);
  });

  it('34. force set of an empty string clears', () => {
    const response = answer(HELLO, configRequest(forceSet, ''));
    expect(response?.next).toEqual(EMPTY_STATE);
    expect(response?.frame.length).toBe(32);
  });

  it('34. force set of the string that is stored changes nothing', () => {
    expect(answer(HELLO, configRequest(forceSet, 'hello'))).toMatchObject({ next: HELLO });
  });

  it.each([test, prefix, set, forceSet])(
    '34. ccmd %i with more than 1024 bytes is met with silence',
    (command) => {
      const string = new Uint8Array(1025);
      expect(answer(EMPTY_STATE, configRequest(command, string))).toBeUndefined();
    },
  );

  it.each([test, prefix, set, forceSet])(
    '34. ccmd %i that says more than it carries is met with silence',
    (command) => {
      const frame = configRequest(command, 'hello', { says: 6 });
      expect(answer(stateWith('hello\xee'), frame)).toBeUndefined();
      expect(answer(EMPTY_STATE, frame)).toBeUndefined();
    },
  );

  it('34. the length is held against the payload, not against the whole frame', () => {
    const frame = configRequest(forceSet, 'x'.repeat(40), { says: 40 + 32 });
    expect(answer(EMPTY_STATE, frame)).toBeUndefined();
  });

  it('34. a stored string does not change with the receive ring', () => {
    const ring = placeFrame(configRequest(forceSet, 'mine'), 0);
    const response = new DataView(new ArrayBuffer(2048));
    const outcome = executeConfig(EMPTY_STATE, CONFIG_FIELDS, {
      request: ring,
      requestAt: 0,
      requestSize: 36,
      response,
      responseAt: 0,
      responseSizeMax: 1514,
    });
    ring.setUint32(32, 0);
    expect(outcome?.next).toEqual(stateWith('mine'));
  });

  it.each(Array.from({ length: 11 }, (_, index) => index + 5))(
    '35. ccmd %i is a bad argument',
    (command) => {
      const response = answer(HELLO, configRequest(command, 'x'));
      expect(response?.error).toBe(AoeError.badArgument);
      expect(response?.next).toBeUndefined();
      expect(stringIn(response)).toBe('hello');
    },
  );

  it('37. set works for an initiator without the reservation', () => {
    const reserved = { ...EMPTY_STATE, reserveList: [OTHER] };
    const response = answer(reserved, configRequest(set, 'mine'));
    expect(response?.error).toBeUndefined();
    expect(response?.next).toEqual({ ...reserved, configString: bytes('mine') });
  });

  it('cuts a string that does not fit in the MTU', () => {
    const state = stateWith('x'.repeat(1024));
    const response = answer(state, configRequest(read, ''), 576);
    expect(response?.frame.length).toBe(14 + 576);
    expect(stringIn(response)).toBe('x'.repeat(14 + 576 - 32));
    expect(stringIn(answer(state, configRequest(read, ''), 1042))).toBe('x'.repeat(1024));
  });

  it('never changes the state it is given', () => {
    const state: TargetState = Object.freeze({ ...EMPTY_STATE, configString: bytes('a') });
    answer(state, configRequest(forceSet, 'b'));
    expect(state.configString).toEqual(bytes('a'));
  });
});

describe('config codec', () => {
  const anyString = fc.uint8Array({ maxLength: 1024 });
  const anyReply = fc.record({
    bufferCount: fc.nat(0xffff),
    firmwareVersion: fc.nat(0xffff),
    sectorCount: fc.nat(0xff),
    configString: anyString,
  });

  it('decodes what it wrote, anywhere in a buffer, padded or not', () => {
    fc.assert(
      fc.property(anyReply, fc.nat(15), fc.nat(99), fc.boolean(), (reply, command, at, pad) => {
        const view = placeFrame(new Uint8Array(1100), at);
        const size = writeConfigReply(view, at, command, reply, reply.configString, 2048);
        expect(size).toBe(32 + reply.configString.length);
        expect(view.getUint8(at + 29)).toBe(0x10 | command);
        expect(decodeConfigReply(view, at, pad ? Math.max(60, size) : size)).toEqual(reply);
      }),
    );
  });

  it('finds every cut of a response', () => {
    fc.assert(
      fc.property(anyReply, fc.nat(), (reply, cut) => {
        const view = placeFrame(new Uint8Array(1100), 5);
        const size = writeConfigReply(view, 5, read, reply, reply.configString, 2048);
        expect(decodeConfigReply(view, 5, cut % size)).toBeUndefined();
      }),
    );
  });

  it('writes requests whose unused bytes are zero', () => {
    const view = placeFrame(new Uint8Array(64).fill(0xee), 3);
    expect(writeConfigRequest(view, 3, prefix, bytes('ab'))).toBe(34);
    const argument = new Uint8Array(view.buffer, view.byteOffset + 3 + Aoe.headerSize, 10);
    expect([...argument]).toEqual([0, 0, 0, 0, 0, 0x12, 0, 2, 0x61, 0x62]);
  });

  it('writes the golden request of the Linux initiator, except for the version nibble', () => {
    const golden = readFrame('config-read-request');
    const frame = configRequest(read, '');
    golden[29] = 0x10;
    expect(frame.subarray(Aoe.headerSize)).toEqual(golden.subarray(Aoe.headerSize));
  });

  it('survives any argument, and stores nothing that was not in the frame', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 1500 }), anyString, (argument, stored) => {
        const frame = new Uint8Array(24 + argument.length);
        frame.set(configRequest(read, '').subarray(0, 24));
        frame.set(argument, 24);
        const next = answer(stateWith(stored), frame, 600)?.next;
        if (next === undefined) return;
        const carried = argument.subarray(8);
        expect(next.configString).toEqual(carried.subarray(0, next.configString.length));
      }),
    );
  });
});
