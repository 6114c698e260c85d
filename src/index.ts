/** The library: serves a configuration from within another program. */
export type { Config } from './config/config.ts';
export { loadConfig } from './config/load.ts';
export { ConfigError } from './config/problem.ts';
export { StartupError } from './core/startup-error.ts';
export { createLogger } from './log.ts';
export { type RunningServer, startServer } from './server.ts';
