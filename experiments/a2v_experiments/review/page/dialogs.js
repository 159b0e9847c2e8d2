// The small window in which a class is chosen or made.

import { text } from './draw.js';
import { $ } from './server.js';

// A class, or null where none was chosen. classes: those to choose from; usual: the one that Enter takes at once.
export function choose(title, classes, usual) {
  const box = $('chooser-text'), list = $('chooser-list');
  $('chooser-title').textContent = title;
  box.value = '';
  let at = 0, names = [];
  const fill = () => {
    const typed = box.value.trim(), low = typed.toLowerCase();
    names = classes.filter((name) => name.toLowerCase().includes(low));
    names.sort((one, two) => two.toLowerCase().startsWith(low) - one.toLowerCase().startsWith(low));
    if (!typed && usual) names = [usual, ...names.filter((name) => name !== usual)];
    if (typed && !classes.includes(typed)) names.push(typed);
    at = Math.min(at, Math.max(0, names.length - 1));
    list.replaceChildren(...names.map((name, place) => {
      const made = text('li', place === at ? 'at' : '', name);
      if (!classes.includes(name)) made.append(text('em', '', ' new class'));
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
      resolve($('chooser').returnValue === 'take' ? names[at] : null);
    };
  });
}
