// The review page: what is on the screen, keys, decisions. Every decision is on the server's disk before the next clip
// is shown. Names (files, classes) are hostile: they are only ever set as text.

import { choose } from './dialogs.js';
import { Player, Stage, clock, text } from './draw.js';
import { KINDS, MARKS, SAID, begin as beginList, filter, labels, refresh, told } from './list.js';
import { $, ask, clipOf, me, stored, toast } from './server.js';

const POLL_MS = 4000, ACTIVE_MS = 120000;
const player = new Player((time) => stage.playhead(time));
const stage = new Stage({ select, seek, edges: (...given) => edges(...given), drawn: (...given) => drawn(...given) });
let about, item, selected, piece, view, n = 0, busy = false, chosen = false, shownAt = 0, lastInput = Date.now(), warned = null;
let whole = stored('whole', '1') === '1', reviewer = stored('reviewer', null);
const history = [], undos = [];

// What is shown

async function show(next, { back = false, byHand = false } = {}) {
  if (!next?.id) {
    toast(n ? 'Nothing else is open here. Ctrl-C in the terminal ends the review.' : 'Nothing is open here.');
    return void refresh(item);
  }
  if (item && !back && item.id !== next.id) history.push(item.id);
  const same = item?.id === next.id, before = item;
  player.stop();
  [item, chosen, warned] = [next, byHand, null];
  for (const box of item.boxes) {
    Object.assign(box, truth(box));
    const old = same && before.boxes.find((one) => one.id === box.id);
    if (old?.moved && old.seen === box.seen) Object.assign(box, { moved: true, onset: old.onset, offset: old.offset });
  }
  if (!same) {
    shownAt = performance.now();
    selected = item.kind === 'event' ? item.id : item.boxes.find((box) => !box.decision)?.id ?? null;
    piece = { now: 0, low: 0, high: 0 };
    view = item.pieces[0];
  }
  const drawn_ = draw();
  details();
  refresh(item);
  drawn_.then(() => item === next && item.ahead.forEach((one) => one.pieces.forEach((span) => clipOf(one.id, span))));
}

function truth(box) {
  const [was, verdict] = [box.decision, box.decision?.verdict];
  const edges = was && verdict !== 'wrong' ? was : box;
  return {
    label: was ? was.label : box.label, onset: edges.onset_s, offset: edges.offset_s, mark: MARKS[verdict] ?? '',
    style: box.kind === 'drawn' ? 'drawn' : verdict ?? (box.id === item.id ? 'main' : 'near'),
  };
}

async function draw() {
  const shown = item, span = view, clip = clipOf(item.id, item.pieces[piece.now]);
  const whole_ = span === item.pieces[piece.now], picture = whole_ ? clip : clipOf(item.id, span, false);
  stage.sound(null);
  marks();
  await picture.ready;
  if (item !== shown || view !== span) return;
  stage.image(picture.image.naturalWidth ? picture.image : null, span, item.rate);
  marks();
  document.body.dataset.shown = item.id;
  const sound = await clip.sound;
  if (item !== shown || view !== span) return;
  if (sound.error) return toast(`${sound.error} (→ goes on)`);
  stage.sound(sound.samples, item.pieces[piece.now][0], sound.rate * item.slow);
  $('gain').textContent = `${sound.gain >= 0 ? '+' : ''}${sound.gain.toFixed(0)} dB`;
}

function marks() {
  for (const box of item.boxes) box.edges = box.id === selected && box.decision?.verdict !== 'wrong';
  stage.mark(item.boxes, selected);
}

function details() {
  const box = current(), stretch = item.kind === 'stretch' && !box, last = box ? box.decision : item.decision;
  $('name').textContent = stretch ? KINDS[item.order] ?? 'stretch' : box?.label ?? item.label;
  const likelihood = box ? box.likelihood : item.likelihood;
  $('likelihood').textContent = box?.kind === 'drawn' ? 'drawn' : likelihood === null ? '' : `likelihood ${likelihood.toFixed(2)}`;
  $('verdict').className = last?.verdict ?? '';
  $('verdict').textContent = last ? `${MARKS[last.verdict]} ${SAID[last.verdict]}${last.reviewer ? ` · ${last.reviewer}` : ''}` : '';
  const span = box ? [box.onset, box.offset] : item.pieces[piece.now], length = span[1] - span[0], digits = length < 0.1 ? 3 : 2;
  const day = item.began && new Date(Date.parse(`${item.began}Z`) + span[0] * 1000).toISOString().replace('T', ' ').slice(0, 19);
  const facts = [item.file, `${clock(span[0], digits)} to ${clock(span[1], digits)}`, length < 1 ? `${(length * 1000).toFixed(0)} ms` : `${length.toFixed(2)} s`, day, `${item.rate / 1000} kHz${item.slow !== 1 ? `, ${item.slow} times slower` : ''}`];
  $('where').replaceChildren(...facts.filter(Boolean).map((one) => text('span', '', one)));
  if (item.pieces.length > 1) $('where').append(text('span', 'part', `part ${piece.now + 1} of ${item.pieces.length}: , and . turn pages`));
  const others = item.boxes.length > 1 || item.kind === 'stretch' ? item.boxes : [];
  $('calls').replaceChildren(...others.map((one) => {
    const chip = button(`${one.mark} ${one.label} ${clock(one.onset, 1)}`.trim(), () => select(one.id), `chip ${one.style} ${one.id === selected ? 'selected' : ''}`);
    return chip;
  }));
  if (others.length) $('calls').prepend(text('span', '', 'calls (Tab):'));
  $('calls').querySelector('.selected')?.scrollIntoView({ block: 'nearest', inline: 'nearest' });
  keys(stretch, box);
}

function keys(stretch, box) {
  const made = [];
  const add = (key, name, run, style = '') => {
    const one = button('', run, style);
    one.append(text('kbd', '', key), name);
    made.push(one);
    return one;
  };
  if (!stretch) {
    add('1', 'right', () => verdict('right'), 'right');
    add('2', box?.kind === 'drawn' ? 'no call' : 'wrong', () => verdict('wrong'), 'wrong');
    add('3', 'other class', () => verdict('other'), 'other');
    add('4', 'uncertain', () => verdict('unsure'), 'unsure');
  }
  if (item.kind === 'stretch') add('Enter', 'seen in full', enter, 'seen');
  add('Space', 'play', () => play(false));
  add('m', 'missed', drawMode, stage.drawing ? 'on' : '');
  if (item.kind === 'event') add('f', `whole clip seen: ${whole ? 'yes' : 'no'}`, toggleWhole, whole ? 'on' : '');
  if (about.similar && box) add('s', 'find similar', () => similar(box.onset, box.offset));
  add('z', 'undo', undo);
  add('←', '', back, 'bare').title = 'back';
  add('→', '', () => go(), 'bare').title = 'next';
  $('keys').replaceChildren(...made);
  $('hint').textContent = stage.drawing
    ? 'Drag over the missed call. Esc leaves.'
    : `Drag the edges of the box to correct them, an empty place to mark a missed call.${box && stage.thin(box) ? ' + zooms in on this short call.' : ''}`;
}

function button(name, run, style = '') {
  const made = text('button', style, name);
  made.type = 'button';
  made.tabIndex = -1;
  made.addEventListener('click', () => { focus(); run(); });
  return made;
}

const current = () => item.boxes.find((box) => box.id === selected);
const focus = () => $('view').focus({ preventScroll: true });

// Deciding

async function send(values, remember = true) {
  const [low, high] = [item.pieces[piece.low][0], item.pieces[piece.high][1]];
  const answer = await ask('decide', {}, {
    shown: item.id, clip: [low, high], page: me, chosen, reviewer: reviewer ?? about.reviewer,
    spent_s: (performance.now() - shownAt) / 1000, ...values,
  });
  if (answer.conflict) return conflict(answer.decision, values, remember);
  n = Math.max(n, answer.line.n);
  for (const one of undos) if (one.item === answer.line.item) one.n = answer.line.n;
  if (remember) undos.push({ shown: item.id, item: answer.line.item, kind: answer.line.kind, n: answer.line.n });
  told(answer.progress);
  return answer;
}

const once = (run) => async (...given) => {
  if (busy || !item) return;
  busy = true;
  try {
    await run(...given);
  } catch (error) {
    toast(error.message, true);
  } finally {
    busy = false;
  }
};

const verdict = once(async (said) => {
  const box = current();
  if (!box) return toast('Choose a call first: click it, or Tab.');
  let label = box.label;
  if (said === 'other') {
    label = await chosenClass('Which class is it?', box.label);
    if (label === null) return;
  }
  if (box.kind === 'drawn') said = { other: 'right', wrong: 'removed' }[said] ?? said;
  const sent = await send({
    item: box.id, kind: box.kind, verdict: said, label, onset_s: box.onset, offset_s: box.offset, seen: box.seen,
    whole: whole && item.kind === 'event' && box.id === item.id,
  });
  if (!sent) return;
  if (box.id === item.id) return show(await ask('next', { page: me, after: item.id, ...filter() }));
  await again();
  selected = item.boxes.find((one) => !one.decision)?.id ?? (item.kind === 'event' ? item.id : null);
  marks();
  details();
});

const again = async () => show(await ask('item', { id: item.id, page: me, ...filter() }), { back: true, byHand: chosen });

const edges = once(async (id, onset, offset) => {
  const box = item.boxes.find((one) => one.id === id);
  box.moved = true;
  details();
  if (!box.decision) return; // saved with the decision
  if (await send({ item: id, kind: box.kind, verdict: box.decision.verdict, label: box.label, onset_s: onset, offset_s: offset, seen: box.seen, whole: box.decision.whole })) await again();
});

const drawn = once(async (onset, offset, search) => {
  if (search) return search_(onset, offset);
  stage.drawing = false;
  const label = await chosenClass(`A missed call, ${(offset - onset).toFixed(2)} s: which class?`, item.label || stored('drawn', about.classes[0] ?? ''));
  if (label !== null) {
    sessionStorage.setItem('drawn', label);
    await send({ item: '', kind: 'drawn', verdict: 'right', label, onset_s: onset, offset_s: offset, seen: 0 });
  }
  await again();
});

const remove = once(async () => {
  const own = item.boxes.filter((box) => box.kind === 'drawn');
  const box = current()?.kind === 'drawn' ? current() : own.sort((one, two) => one.decision.n - two.decision.n).at(-1);
  if (!box) return toast('Only drawn calls can be deleted; 2 says that a prediction is wrong.');
  await send({ item: box.id, kind: 'drawn', verdict: 'removed', label: box.label, onset_s: box.onset, offset_s: box.offset, seen: box.seen });
  if (selected === box.id) selected = item.kind === 'event' ? item.id : null;
  await again();
});

const undo = once(async () => {
  const last = undos.pop() ?? (current()?.decision && { shown: item.id, item: selected, kind: current().kind, n: current().seen })
    ?? (item.decision && { shown: item.id, item: item.id, kind: item.kind, n: item.seen });
  if (!last) return toast('Nothing was decided on this page yet; ← goes back, and z then takes back what is shown.');
  if (last.shown !== item.id) await show(await ask('item', { id: last.shown, page: me, ...filter() }));
  if (await send({ item: last.item, kind: last.kind, verdict: 'undone', seen: last.n, onset_s: 0, offset_s: 0 }, false)) await again();
  selected = item.boxes.some((box) => box.id === last.item) ? last.item : selected;
  marks();
  details();
  toast('Taken back.');
});

function conflict(decision, values, remember) {
  $('conflict-text').textContent = `${decision.reviewer || 'Another page'} decided “${SAID[decision.verdict] ?? decision.verdict}”${decision.label ? ` (${decision.label})` : ''} at ${decision.time.replace('T', ' ').replace('Z', ' UTC')}.`;
  $('conflict').showModal();
  return new Promise((resolve) => {
    const end = async (replace) => {
      $('conflict').close();
      focus();
      if (replace) return resolve(await send({ ...values, seen: decision.n }, remember).catch((error) => toast(error.message, true)));
      await again();
      resolve(null);
    };
    $('keep').onclick = () => end(false);
    $('replace').onclick = () => end(true);
    $('conflict').oncancel = (event) => { event.preventDefault(); end(false); };
    $('conflict').onkeydown = (event) => { if (event.key === 'k') end(false); if (event.key === 'r') end(true); };
  });
}

async function chosenClass(title, usual) {
  const name = await choose(title, about.classes, usual);
  focus();
  if (name !== null && !about.classes.includes(name)) {
    about.classes.push(name);
    labels(about);
  }
  return name;
}

// Moving about

const go = once(async () => show(await ask('next', { page: me, after: item.id, ...filter() })));
const open = once(async (id) => show(await ask('item', { id, page: me, ...filter() }), { byHand: true }));
const back = once(async () => {
  if (!history.length) return toast('This is the first clip of this page.');
  await show(await ask('item', { id: history.pop(), page: me, ...filter() }), { back: true });
});

const enter = () => {
  if (item.kind === 'event') return go();
  if (piece.high < item.pieces.length - 1) return turn(1);
  const open = item.boxes.find((box) => box.kind === 'event' && !box.decision);
  if (open && warned !== item.id) {
    warned = item.id;
    select(open.id);
    return toast('A prediction in it is undecided. Enter again leaves it open.');
  }
  return seen();
};

const seen = once(async () => {
  if (await send({ item: item.id, kind: 'stretch', verdict: 'seen', label: '', onset_s: item.onset_s, offset_s: item.offset_s, seen: item.seen, whole: true }))
    await show(await ask('next', { page: me, after: item.id, ...filter() }));
});

function turn(by) {
  const now = piece.now + by;
  if (now < 0 || now >= item.pieces.length) return;
  piece = { now, low: Math.min(piece.low, now), high: Math.max(piece.high, now) };
  view = item.pieces[now];
  player.stop();
  draw();
  details();
}

function zoom(factor, around) {
  const [low, high] = item.pieces[piece.now], length = Math.min(high - low, Math.max(0.02, (view[1] - view[0]) * factor));
  const box = current(), middle = around ?? (box ? (box.onset + box.offset) / 2 : (view[0] + view[1]) / 2);
  const start = Math.min(high - length, Math.max(low, middle - length / 2));
  view = length >= high - low - 1e-9 ? item.pieces[piece.now] : [+start.toFixed(4), +(start + length).toFixed(4)];
  draw();
}

function select(id) {
  selected = id;
  marks();
  details();
}

function tab(by) {
  if (!item.boxes.length) return;
  const at = item.boxes.findIndex((box) => box.id === selected);
  select(item.boxes[(at + by + item.boxes.length) % item.boxes.length].id);
}

async function play(onlyCall, from) {
  if (player.playing && from === undefined) return player.stop();
  const shown = item, start = item.pieces[piece.now][0], box = current(), span = onlyCall && box ? [box.onset, box.offset] : [from ?? view[0], view[1]];
  const sound = await clipOf(item.id, item.pieces[piece.now]).sound;
  if (shown === item && !sound.error) player.play(sound, start, item.slow, Math.max(span[0], start), span[1]);
}

function seek(time) { focus(); play(false, time); }

function drawMode() {
  stage.drawing = !stage.drawing;
  marks();
  details();
}

function toggleWhole() {
  whole = !whole;
  sessionStorage.setItem('whole', whole ? '1' : '0');
  details();
}

const similar = once((onset, offset) => search_(onset, offset));
async function search_(onset, offset) {
  if (!about.similar) return toast('Search needs a model that has heard the recordings: start a2v review with --model.');
  toast('Searching …');
  const { value: found } = await ask('similar', {}, { item: item.id, from: Math.max(onset, item.clip[0]), to: Math.min(offset, item.clip[1]) });
  if (!found.length) return toast('Nothing like it was found.');
  $('label').value = about.stretches;
  toast(`${found.length} stretches like it, the likest first.`);
  await show(await ask('item', { id: found[0].id, page: me, ...filter() }), { byHand: true });
}

async function poll() {
  try {
    const held = Date.now() - lastInput < ACTIVE_MS && item ? item.id : '';
    const found = await ask('state', { since: n, page: me, held });
    if (found.n === n) return;
    n = found.n;
    told(found.progress);
    if (!busy && item && found.news.some((one) => one.item === item.id || item.boxes.some((box) => box.id === one.item))) await again();
    else await refresh(item);
  } catch { /* the line above the page says so */ }
}

// Keys

const KEYS = [
  ['1 y', 'right', () => verdict('right')], ['2 n', 'wrong', () => verdict('wrong')],
  ['3 o', 'of another class', () => verdict('other')], ['4 u', 'uncertain', () => verdict('unsure')],
  ['Space', 'play or stop; with Shift the call alone', (event) => play(event.shiftKey)],
  ['ArrowRight', 'next', () => go()], ['Enter', 'next; of a stretch: seen in full', enter], ['ArrowLeft', 'back', back],
  ['z', 'undo', undo], ['m', 'draw a missed call (or drag on an empty place)', drawMode],
  ['Delete Backspace', 'delete a drawn call', remove], ['f', 'whole clip looked at, or only the call', toggleWhole],
  ['Tab', 'next call in the clip; with Shift the one before', (event) => tab(event.shiftKey ? -1 : 1)],
  ['s', 'find stretches that sound like the call (or drag with Shift)', () => current() && similar(current().onset, current().offset)],
  ['+ =', 'zoom in on the call', () => zoom(0.5)], ['-', 'zoom out', () => zoom(2)], ['0', 'whole clip', () => zoom(1e9)],
  [', PageUp', 'part before, of a long one', () => turn(-1)], ['. PageDown', 'next part', () => turn(1)],
  ['/', 'filter by file; Esc comes back', () => $('file').focus()], ['?', 'these keys', () => $('help').showModal()],
];

addEventListener('keydown', (event) => {
  lastInput = Date.now();
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]')) return;
  if (event.target.matches('input, select, textarea')) {
    if (event.key === 'Escape' || (event.key === 'Enter' && event.target.id !== 'chooser-text')) { event.preventDefault(); focus(); }
    return;
  }
  if (event.key === 'Escape' && stage.drawing) return drawMode();
  const name = event.key === ' ' ? 'Space' : event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const found = KEYS.find(([all]) => all.split(' ').includes(name));
  if (name === 'Tab' && item?.boxes.length < 2) return; // to the filters, as everywhere
  if (!found || !item || (event.repeat && !['ArrowRight', 'ArrowLeft'].includes(name))) return;
  event.preventDefault();
  found[2](event);
});
addEventListener('pointerdown', () => { lastInput = Date.now(); });

async function begin() {
  about = await ask('about', {});
  labels(about);
  $('files').replaceChildren(...about.files.map((name) => Object.assign(text('option'), { value: name })));
  const told_ = () => { $('who').textContent = (reviewer ?? about.reviewer) || 'no name'; };
  told_();
  $('who').onclick = () => {
    const name = prompt('Whose decisions are these?', reviewer ?? about.reviewer);
    if (name !== null) { reviewer = name.trim(); sessionStorage.setItem('reviewer', reviewer); told_(); }
    focus();
  };
  $('help-list').replaceChildren(...KEYS.filter(([all]) => all !== 's' || about.similar).flatMap(([all, what]) => {
    const made = text('dt');
    made.append(...all.split(' ').map((key) => text('kbd', '', { ArrowRight: '→', ArrowLeft: '←' }[key] ?? key)));
    return [made, text('dd', '', what)];
  }));
  $('help-button').onclick = () => $('help').showModal();
  $('help-close').onclick = () => $('help').close();
  $('help').onclose = focus;
  $('filters').onsubmit = (event) => event.preventDefault();
  $('filters').onchange = (event) => { $('list').scrollTop = 0; refresh(item); if (event.target.matches('select, [type=checkbox]')) focus(); };
  $('file').oninput = () => { $('list').scrollTop = 0; refresh(item); };
  beginList((id) => { focus(); open(id); });
  document.getElementById('picture').addEventListener('wheel', (event) => {
    if (!item) return;
    event.preventDefault();
    zoom(event.deltaY < 0 ? 0.8 : 1.25, stage.time(event));
  }, { passive: false });
  const state = await ask('state', { since: 0, page: me, held: '' });
  n = state.n;
  told(state.progress);
  const next = await ask('next', { page: me, after: '', ...filter() });
  if (next.id) await show(next);
  else {
    const all = await ask('list', { first: 0, count: 1, ...filter() });
    if (all.rows.length) await show(await ask('item', { id: all.rows[0].id, page: me, ...filter() }));
    toast('Everything here is decided.');
  }
  focus();
  setInterval(() => document.visibilityState === 'visible' && poll(), POLL_MS);
}

begin().catch((error) => toast(error.message, true));
