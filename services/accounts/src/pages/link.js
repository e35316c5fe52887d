// Uses the link of a mail once its button is pressed: to open the page uses nothing up.
'use strict';

const PASSWORD = {
  title: 'Set your password', button: 'Set password', path: 'password/reset', password: true,
  done: 'The password is set. Sign in with it.',
};
const PAGES = {
  'enrol': PASSWORD,
  'reset': PASSWORD,
  'verify': {
    title: 'Confirm your address', button: 'Confirm', path: 'email/verify',
    done: 'The address is confirmed.',
  },
  'undo': {
    title: 'Put your former address back', button: 'Put it back', path: 'email/undo',
    done: 'The address is put back, and all sessions have ended. A link to set a new password is on its way.',
  },
  'sign-in': {
    title: 'Sign in', button: 'Sign in', path: 'magic-link/confirm',
    done: 'You are signed in.',
  },
};

const element = (id) => document.getElementById(id);
const page = PAGES[location.pathname.split('/').pop()];
const token = new URLSearchParams(location.hash.slice(1)).get('token');
// Neither the history nor a screenshot keeps it.
history.replaceState(null, '', location.pathname);

let flow = null;

function body() {
  const code = element('code').value.trim();
  if (flow !== null) {
    return { path: 'mfa/verify', body: { flow, method: code.includes('-') ? 'recovery_code' : 'totp', code } };
  }
  const sent = { token };
  if (page.password) sent.password = element('password').value;
  if (code !== '') sent.code = code;
  return { path: page.path, body: sent };
}

async function post({ path, body }) {
  const answer = await fetch(`../api/v1/auth/${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  return { answer, said: answer.status === 204 ? {} : await answer.json() };
}

// What a passkey of this user says to the sign-in that waits for its second factor.
async function assertion() {
  const { answer, said } = await post({ path: 'passkey/options', body: { flow } });
  if (!answer.ok) return { answer, said };
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(said.options);
  const credential = await navigator.credentials.get({ publicKey });
  return post({
    path: 'mfa/verify',
    body: { flow: said.flow, method: 'passkey', credential: credential.toJSON() },
  });
}

// Both buttons wait until `ask` is answered.
async function send(event, ask, failed) {
  event.preventDefault();
  const buttons = [element('button'), element('passkey')];
  buttons.forEach((button) => { button.disabled = true; });
  try {
    const { answer, said } = await ask();
    show(answer, said);
  } catch {
    element('result').textContent = failed;
  }
  buttons.forEach((button) => { button.disabled = false; });
}

function show(answer, said) {
  const result = element('result');
  if (answer.ok && said.mfa) {
    flow = said.mfa.flow;
    const byPasskey = said.mfa.methods.includes('passkey');
    const byCode = said.mfa.methods.some((method) => method !== 'passkey');
    element('code').value = '';
    element('code-row').hidden = !byCode;
    element('button').hidden = !byCode;
    element('passkey').hidden = !byPasskey;
    const ways = [];
    if (byPasskey) ways.push('use your passkey');
    if (said.mfa.methods.includes('totp')) ways.push('enter the code of your authenticator app');
    if (said.mfa.methods.includes('recovery_code')) ways.push('enter a recovery code');
    result.textContent = `To go on, ${ways.join(', or ')}.`;
    return;
  }
  if (answer.ok) {
    element('form').hidden = true;
    result.textContent = page.done;
    return;
  }
  const error = (said.errors ?? [])[0];
  if (error && error.code === 'code_needed') {
    element('code-row').hidden = false;
    result.textContent = 'This is not the browser that asked for the mail: enter the code of the mail too.';
    return;
  }
  if (said.code === 'link_used_or_expired') {
    element('form').hidden = true;
  }
  result.textContent = error ? `${error.field} ${error.message}` : (said.detail ?? said.title ?? 'It did not work.');
}

if (page && token) {
  document.title = page.title;
  element('title').textContent = page.title;
  element('button').textContent = page.button;
  element('password-row').hidden = !page.password;
  element('form').hidden = false;
  element('form').addEventListener('submit', (event) => send(event, () => post(body()), 'No answer. Try again.'));
  element('passkey').addEventListener('click', (event) =>
    send(event, assertion, 'The passkey was not used. Try again.'));
} else {
  element('result').textContent = 'The link is not complete. Open it as it is in the mail.';
}
