/** The one dialog: asks before something is done, and stays until it is done or given up. */
import { forgetToken, hasToken, RefusedError, useToken } from './client.ts';
import { find, make, setText } from './dom.ts';

export interface Field {
  readonly name: string;
  readonly label: string;
  readonly type: 'text' | 'password' | 'checkbox';
  /** What text must match. */
  readonly pattern?: string;
}

export interface Question {
  readonly title: string;
  readonly text: string;
  readonly fields: readonly Field[];
  /** What the button says that does it. */
  readonly action: string;
  readonly isDangerous?: boolean;
  /** @param given by name of the field; 'on' for a box that is checked */
  act(given: Readonly<Record<string, string>>): Promise<unknown>;
}

const dialog = find<HTMLDialogElement>('dialog');
const form = dialog.querySelector('form') as HTMLFormElement;
const problem = find('dialog-problem');
const submit = find<HTMLButtonElement>('dialog-act');
const cancel = find<HTMLButtonElement>('dialog-cancel');

let question: Question | undefined;
let settle: (isDone: boolean) => void = () => {};

form.addEventListener('submit', (event) => {
  event.preventDefault();
  void act();
});
cancel.addEventListener('click', () => dialog.close());
dialog.addEventListener('cancel', (event) => {
  // What is being done cannot be given up.
  if (cancel.disabled) event.preventDefault();
});
dialog.addEventListener('close', () => {
  // The news of it may come when it is open again, for the next question.
  if (!dialog.open) settle(false);
});

/** Takes the place of what was asked before. @returns whether it was done, not given up */
export function ask(next: Question): Promise<boolean> {
  settle(false);
  question = next;
  setText(find('dialog-title'), next.title);
  setText(find('dialog-text'), next.text);
  setText(problem, '');
  setText(submit, next.action);
  submit.className = next.isDangerous ? 'danger' : 'primary';
  find('dialog-fields').replaceChildren(...next.fields.map(makeField));
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve) => {
    settle = resolve;
  });
}

/** Asks for the token, unless it is known. @returns whether it is known now */
export async function askToken(): Promise<boolean> {
  if (hasToken()) return true;
  return ask({
    title: 'Token',
    text: 'It is in the file dashboard-token of the server’s state directory, and kept here until this tab is closed.',
    fields: [{ name: 'token', label: 'Token', type: 'password' }],
    action: 'Unlock',
    act: ({ token = '' }) => useToken(token.trim()),
  });
}

async function act(): Promise<void> {
  const asked = question;
  submit.disabled = true;
  cancel.disabled = true;
  try {
    const given = Object.entries(Object.fromEntries(new FormData(form)));
    await asked?.act(Object.fromEntries(given.map(([name, value]) => [name, `${value}`])));
    if (question !== asked) return;
    settle(true);
    dialog.close();
  } catch (error) {
    setText(problem, (error as Error).message);
    if (error instanceof RefusedError && error.isForToken) forgetToken();
  } finally {
    submit.disabled = false;
    cancel.disabled = false;
  }
}

function makeField({ name, label, type, pattern }: Field): HTMLElement {
  const input = make('input', { name, type, autocomplete: 'off', spellcheck: false });
  if (type === 'checkbox') return make('label', { className: 'check' }, input, ` ${label}`);
  input.required = true;
  if (pattern !== undefined) input.pattern = pattern;
  return make('label', {}, label, input);
}
