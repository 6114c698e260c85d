import { describe, expect, it } from 'vitest';
import { ClientTable } from '../../src/aoe/client-table.ts';

const MAC = 0x0200_0000_0001;

describe('ClientTable', () => {
  it('counts the requests of each initiator, and tells the last seen first', () => {
    const table = new ClientTable();
    expect(table.list()).toEqual([]);
    table.note(MAC, 10);
    table.note(MAC + 1, 20);
    table.note(MAC, 30);
    table.note(0, 5);
    expect(table.list()).toEqual([
      { mac: MAC, lastSeenUs: 30, requests: 2 },
      { mac: MAC + 1, lastSeenUs: 20, requests: 1 },
      { mac: 0, lastSeenUs: 5, requests: 1 },
    ]);
  });

  it('tells addresses apart that differ in their first octets only', () => {
    const table = new ClientTable();
    table.note(0x0200_1234_5678, 1);
    table.note(0x0600_1234_5678, 2);
    expect(table.list().map(({ mac }) => mac)).toEqual([0x0600_1234_5678, 0x0200_1234_5678]);
  });

  it('stays small under a flood of addresses, and keeps who asks all the time', () => {
    const table = new ClientTable();
    for (let index = 1; index <= 100_000; index++) {
      table.note(MAC + index, index);
      table.note(MAC, index);
    }
    const clients = table.list();
    expect(clients.length).toBeLessThanOrEqual(128);
    expect(clients).toContainEqual({ mac: MAC, lastSeenUs: 100_000, requests: 100_000 });
    // What it forgets is old.
    expect(Math.min(...clients.map(({ lastSeenUs }) => lastSeenUs))).toBeGreaterThan(99_000);
  });
});
