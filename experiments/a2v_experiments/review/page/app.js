// The review page: what is on the screen, keys, decisions. Every decision is on the server's disk before the next clip
// is shown. Names (files, classes) are hostile: they are only ever set as text.

import { Player, Stage, clock, parseWav, text } from './draw.js';

const $ = (id) => document.getElementById(id);
const MARKS = { right: '✓', wrong: '✗', other: '⇄', unsure: '?', seen: '✓' };
const SAID = { right: 'right', wrong: 'wrong', other: 'other class', unsure: 'uncertain', seen: 'seen in full' };
const KINDS = { windows: 'random window', suggested: 'suggested clip', search: 'found by search' };
const ROW_PX = 44, POLL_MS = 4000, ACTIVE_MS = 120000, KEPT_CLIPS = 12, BLOCK = 100;
const stored = (key, usual) => sessionStorage.getItem(key) ?? usual;
// A page that is loaded again is the same one; a tab that was doubled is another, though it takes the store along.
const reloaded = performance.getEntriesByType('navigation')[0]?.type === 'reload';
const me = (reloaded && stored('page', null)) || Array.from(crypto.getRandomValues(new Uint8Array(8)), (one) => one.toString(16)).join('');
sessionStorage.setItem('page', me);

const player = new Player((time) => stage.playhead(time));
const stage = new Stage({ select, seek, edges: (...given) => edges(...given), drawn: (...given) => drawn(...given) });
let about, item, selected, piece, view, n = 0, busy = false, chosen = false, shownAt = 0, lastInput = Date.now(), warned = null;
let whole = stored('whole', '1') === '1', reviewer = stored('reviewer', null);
const history = [], undos = [], clips = new Map(), rows = { total: 0, blocks: new Map() };

// The server

async function ask(path, parameters, body) {
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

const filter = () => ({
  label: $('label').value, low: $('low').value || 0, high: $('high').value || 1,
  file: $('file').value.replace(/[\uD800-\uDFFF]/g, ''), undecided: $('undecided').checked ? 1 : 0,
});

function clipOf(id, [from, to], sound = true) {
  const key = `id=${id}&from=${from}&to=${to}`;
  if (!clips.has(key)) {
    const image = new Image();
    image.draggable = false;
    image.src = `clip.png?${key}`;
    const ready = image.decode().catch(() => null);
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

// What is shown

async function show(next, { back = false, byHand = false } = {}) {
  if (!next?.id) {
    toast(n ? 'Nothing else is open here. Ctrl-C in the terminal ends the review.' : 'Nothing is open here.');
    return void refresh();
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
  refresh(true);
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
  const span = box ? [box.onset, box.offset] : item.pieces[piece.now], length = span[1] - span[0];
  const day = item.began && new Date(Date.parse(`${item.began}Z`) + span[0] * 1000).toISOString().replace('T', ' ').slice(0, 19);
  const facts = [item.file, `${clock(span[0])} to ${clock(span[1])}`, length < 1 ? `${(length * 1000).toFixed(0)} ms` : `${length.toFixed(2)} s`, day, `${item.rate / 1000} kHz${item.slow !== 1 ? `, ${item.slow} times slower` : ''}`];
  $('where').replaceChildren(...facts.filter(Boolean).map((one) => text('span', '', one)));
  if (item.pieces.length > 1) $('where').append(text('span', 'part', `part ${piece.now + 1} of ${item.pieces.length}: , and . turn pages`));
  const others = item.boxes.length > 1 || item.kind === 'stretch' ? item.boxes : [];
  $('calls').replaceChildren(...others.map((one) => {
    const chip = button(`${one.mark} ${one.label} ${clock(one.onset, 1)}`.trim(), () => select(one.id), `chip ${one.style} ${one.id === selected ? 'selected' : ''}`);
    return chip;
  }));
  if (others.length) $('calls').prepend(text('span', '', 'calls here (Tab):'));
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
  add('m', 'missed call', drawMode, stage.drawing ? 'on' : '');
  if (item.kind === 'event') add('f', `whole clip seen: ${whole ? 'yes' : 'no'}`, toggleWhole, whole ? 'on' : '');
  if (about.similar && box) add('s', 'find similar', () => similar(box.onset, box.offset));
  add('z', 'undo', undo);
  add('←', '', back, 'bare').title = 'back';
  add('→', '', () => go(), 'bare').title = 'next';
  $('keys').replaceChildren(...made);
  $('hint').textContent = stage.drawing
    ? 'Drag over the missed call. Esc leaves.'
    : 'Drag the edges of the box to correct them, an empty place to mark a missed call.';
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
    label = await choose('Which class is it?', box.label);
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
  const label = await choose(`A missed call, ${(offset - onset).toFixed(2)} s: which class?`, item.label || stored('drawn', about.classes[0] ?? ''));
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

function choose(title, usual) {
  const box = $('chooser-text'), list = $('chooser-list');
  $('chooser-title').textContent = title;
  box.value = '';
  let at = 0, names = [];
  const fill = () => {
    const typed = box.value.trim(), low = typed.toLowerCase();
    names = about.classes.filter((name) => name.toLowerCase().includes(low));
    names.sort((one, two) => two.toLowerCase().startsWith(low) - one.toLowerCase().startsWith(low));
    if (!typed && usual) names = [usual, ...names.filter((name) => name !== usual)];
    if (typed && !about.classes.includes(typed)) names.push(typed);
    at = Math.min(at, Math.max(0, names.length - 1));
    list.replaceChildren(...names.map((name, place) => {
      const made = text('li', place === at ? 'at' : '', name);
      if (!about.classes.includes(name)) made.append(text('em', '', ' new class'));
      made.addEventListener('click', () => { at = place; $('chooser').close('take'); });
      return made;
    }));
    list.children[at]?.scrollIntoView({ block: 'nearest' });
  };
  box.oninput = () => { at = 0; fill(); };
  box.onkeydown = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) { at = (at + step + names.length) % names.length; fill(); event.preventDefault(); }
    if (event.key === 'Enter') { event.preventDefault(); if (names.length) $('chooser').close('take'); }
  };
  fill();
  $('chooser').returnValue = '';
  $('chooser').showModal();
  return new Promise((resolve) => {
    $('chooser').onclose = () => {
      focus();
      const name = $('chooser').returnValue === 'take' ? names[at] : null;
      if (name && !about.classes.includes(name)) { about.classes.push(name); labels(); }
      resolve(name);
    };
  });
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

// The list, and what is told above it

async function refresh(reveal = false) {
  rows.blocks.clear();
  const list = $('list');
  if (reveal && item?.row !== null && item?.row !== undefined) {
    const top = item.row * ROW_PX;
    $('rows').style.height = `${Math.max(rows.total, item.row + 1) * ROW_PX}px`;
    if (top < list.scrollTop + ROW_PX || top > list.scrollTop + list.clientHeight - 2 * ROW_PX) list.scrollTop = top - list.clientHeight / 3;
  }
  await fill();
}

async function fill() {
  const list = $('list'), first = Math.floor(list.scrollTop / ROW_PX), last = Math.ceil((list.scrollTop + list.clientHeight) / ROW_PX);
  const { blocks } = rows;
  for (let block = Math.floor(first / BLOCK); block <= Math.floor(last / BLOCK); block++) {
    if (blocks.has(block)) continue;
    const found = await ask('list', { first: block * BLOCK, count: BLOCK, ...filter() }).catch((error) => toast(error.message, true));
    if (!found) return;
    blocks.set(block, found.rows);
    rows.total = found.total;
  }
  $('rows').style.height = `${rows.total * ROW_PX}px`;
  $('count').textContent = `(${rows.total} listed)`;
  const made = [];
  for (let place = first; place < Math.min(last, rows.total); place++) {
    const row = blocks.get(Math.floor(place / BLOCK))?.[place % BLOCK];
    if (!row) continue;
    const one = text('div', `row ${row.verdict ?? ''} ${row.id === item?.id ? 'now' : ''}`);
    one.style.top = `${place * ROW_PX}px`;
    const label = row.kind === 'stretch' ? KINDS[row.order] ?? 'stretch' : row.verdict === 'other' ? `${row.label} → ${row.now}` : row.label;
    one.append(text('b', '', MARKS[row.verdict] ?? ''), text('span', 'label', label),
      text('span', 'value', row.likelihood === null ? '' : row.likelihood.toFixed(2)), text('small', '', `${row.file} · ${clock(row.onset_s, 1)}`));
    one.title = row.file;
    one.addEventListener('click', () => { focus(); open(row.id); });
    made.push(one);
  }
  $('rows').replaceChildren(...made);
}

const share = (value) => `${(100 * value).toFixed(0)} %`;
function told(progress) {
  $('decided').textContent = `${progress.decided} of ${progress.total} decided`;
  $('bar').style.width = `${(100 * progress.decided) / Math.max(1, progress.total)}%`;
  const one = (name, found) => {
    const made = text('span', 'share', `${name} `), estimated = found.precision !== null;
    made.append(text('b', '', estimated ? share(found.precision) : `${found.right}/${found.decided}`), text('small', '', estimated ? ` n ${found.sample}` : ''));
    made.title = `${found.right} of ${found.decided} decided are right. Estimate of the precision of all ${found.events} events: from the ${found.sample} decisions that are a random sample within a band of likelihood, each band counted by its events (bands with ${share(found.covered)} of all). Its interval: a2v review report.`;
    return made;
  };
  const { all, classes } = progress, several = Object.entries(classes).length > 1;
  $('precision').replaceChildren(text('span', '', `right: ${all.right} of ${all.decided}`), one('precision so far', all),
    ...Object.entries(several ? classes : {}).filter(([, found]) => found.decided).map(([name, found]) => one(name, found)));
}

async function poll() {
  try {
    const held = Date.now() - lastInput < ACTIVE_MS && item ? item.id : '';
    const found = await ask('state', { since: n, page: me, held });
    if (found.n === n) return;
    n = found.n;
    told(found.progress);
    if (!busy && item && found.news.some((one) => one.item === item.id || item.boxes.some((box) => box.id === one.item))) await again();
    else await refresh();
  } catch { /* the line above the page says so */ }
}

let hiding;
function toast(said, bad = false) {
  $('toast').textContent = said;
  $('toast').className = `shown ${bad ? 'bad' : ''}`;
  clearTimeout(hiding);
  hiding = setTimeout(() => { $('toast').className = ''; }, bad ? 12000 : 4000);
}

function gone(now) {
  document.body.classList.toggle('gone', now);
  if (now) toast('a2v review has ended, or cannot be reached. What was decided before is saved.', true);
}

function labels() {
  const was = $('label').value, option = (value, name) => Object.assign(text('option', '', name), { value });
  $('label').replaceChildren(option('', 'all'), ...about.classes.map((name) => option(name, name)), option(about.stretches, 'stretches'));
  $('label').value = was;
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
  labels();
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
  $('filters').onchange = (event) => { $('list').scrollTop = 0; refresh(); if (event.target.matches('select, [type=checkbox]')) focus(); };
  $('file').oninput = () => { $('list').scrollTop = 0; refresh(); };
  $('list').onscroll = () => fill();
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
