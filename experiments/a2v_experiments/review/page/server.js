// What the server is asked, clips that are fetched ahead, and the line that says what went wrong.

import { parseWav } from './draw.js';

const KEPT_CLIPS = 12;
export const $ = (id) => document.getElementById(id);
export const stored = (key, usual) => sessionStorage.getItem(key) ?? usual;

// A page that is loaded again is the same one; a tab that was doubled is another, though it takes the store along.
const reloaded = performance.getEntriesByType('navigation')[0]?.type === 'reload';
export const me = (reloaded && stored('page', null)) || Array.from(crypto.getRandomValues(new Uint8Array(8)), (one) => one.toString(16)).join('');
sessionStorage.setItem('page', me);

const clips = new Map();

export async function ask(path, parameters, body) {
  let answer;
  try {
    const options = body && { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) };
    answer = await fetch(`${path}?${new URLSearchParams(parameters)}`, options);
  } catch {
    gone(true);
    throw new Error('a2v review cannot be reached: this was not saved. Start it again and open the new address.');
  }
  gone(false);
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok && answer.status !== 409) throw new Error(answer.status === 403 ? 'a2v review was started anew: open the address that it printed.' : found.error ?? `error ${answer.status}`);
  return Object.assign(Array.isArray(found) || found === null ? { value: found } : found, { conflict: answer.status === 409 });
}

export function clipOf(id, [from, to], sound = true) {
  const key = `id=${id}&from=${from}&to=${to}`;
  if (!clips.has(key)) {
    const image = new Image();
    image.draggable = false;
    image.src = `clip.png?${key}`;
    const ready = image.decode().catch(() => clips.delete(key));
    clips.set(key, { image, ready, sound: sound ? fetchSound(key) : null });
    if (clips.size > KEPT_CLIPS) clips.delete(clips.keys().next().value);
  }
  return clips.get(key);
}

async function fetchSound(key) {
  const answer = await fetch(`clip.wav?${key}`).catch(() => null);
  if (!answer?.ok) return { error: (await answer?.json().catch(() => null))?.error ?? 'the sound cannot be had' };
  return { ...parseWav(await answer.arrayBuffer()), gain: Number(answer.headers.get('X-Gain-dB')) };
}

let hiding;
export function toast(said, bad = false) {
  $('toast').textContent = said;
  $('toast').className = `shown ${bad ? 'bad' : ''}`;
  clearTimeout(hiding);
  hiding = setTimeout(() => { $('toast').className = ''; }, bad ? 12000 : 4000);
}

function gone(now) {
  document.body.classList.toggle('gone', now);
  if (now) toast('a2v review has ended, or cannot be reached. What was decided before is saved.', true);
}
