// The list at the left with its filters, and what is told above it: progress and precision.

import { clock, text } from './draw.js';
import { $, ask, toast } from './server.js';

const ROW_PX = 44, BLOCK = 100;
export const MARKS = { right: '✓', wrong: '✗', other: '⇄', unsure: '?', seen: '✓' };
export const SAID = { right: 'right', wrong: 'wrong', other: 'other class', unsure: 'uncertain', seen: 'seen in full' };
export const KINDS = { windows: 'random window', suggested: 'suggested clip', search: 'found by search' };

const rows = { total: 0, blocks: new Map() };
let item = null, open = () => {};

// onOpen(id): a row was clicked.
export function begin(onOpen) {
  open = onOpen;
  $('list').onscroll = () => fill();
}

export const filter = () => ({
  label: $('label').value, low: $('low').value || 0, high: $('high').value || 1,
  file: $('file').value.replace(/[\uD800-\uDFFF]/gu, ''), undecided: $('undecided').checked ? 1 : 0,
});

// Ask for the list again; shown: the item on the screen, which is scrolled to where it is another one.
export async function refresh(shown) {
  rows.blocks = new Map();
  const list = $('list'), other = shown?.id !== item?.id;
  item = shown;
  if (other && item && item.row !== null) {
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
    if (!found || blocks !== rows.blocks) return; // another list was asked for meanwhile
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
    one.addEventListener('click', () => open(row.id));
    made.push(one);
  }
  $('rows').replaceChildren(...made);
}

const share = (value) => `${(100 * value).toFixed(0)} %`;
export function told(progress) {
  $('decided').textContent = `${progress.decided} of ${progress.total} decided`;
  $('bar').style.width = `${(100 * progress.decided) / Math.max(1, progress.total)}%`;
  const each = (name, found) => {
    const made = text('span', 'share'), estimated = found.precision !== null;
    made.append(text('span', '', name), text('b', '', estimated ? share(found.precision) : found.decided ? `${found.right}/${found.decided}` : '–'), text('small', '', estimated ? `n ${found.sample}` : ''));
    made.title = `${name}: ${found.right} of ${found.decided} decided are right. Estimate of the precision of all ${found.events} events: from the ${found.sample} decisions that are a random sample within a band of likelihood, each band counted by its events (bands with ${share(found.covered)} of all). Its interval: a2v review report.`;
    return made;
  };
  const { all, classes } = progress, several = Object.entries(classes).length > 1;
  $('precision').replaceChildren(...(all.decided ? [text('span', '', `right: ${all.right} of ${all.decided}`)] : []), each('precision so far', all),
    ...Object.entries(several ? classes : {}).filter(([, found]) => found.decided).sort(([, one], [, two]) => two.decided - one.decided).map(([name, found]) => each(name, found)));
}

// The classes to filter by.
export function labels({ classes, stretches }) {
  const was = $('label').value, option = (value, name) => Object.assign(text('option', '', name), { value });
  $('label').replaceChildren(option('', 'all'), ...classes.map((name) => option(name, name)), option(stretches, 'stretches'));
  $('label').value = was;
}
