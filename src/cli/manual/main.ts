/** Writes the pages of the manual into the directory that is its argument. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { VERSION } from '../../version.ts';
import { createProgram } from '../program.ts';
import { configPage } from './config-page.ts';
import { programPage } from './program-page.ts';

const [directory = 'dist/man'] = process.argv.slice(2);
// Builds of one source at different times are to be equal when the builder asks for it.
const epochMs = Number(process.env['SOURCE_DATE_EPOCH'] ?? Date.now() / 1000) * 1000;
const release = { version: VERSION, date: new Date(epochMs).toISOString().slice(0, 10) };

mkdirSync(directory, { recursive: true });
writeFileSync(join(directory, 'aoe-server.8'), programPage(createProgram(), release));
writeFileSync(join(directory, 'aoe-server.toml.5'), configPage(release));
