// The picture of a clip with its boxes, waveform, axes and playhead; and its sound. Times are seconds in the recording.
// Names of classes are only ever set as text.

const NEAR_PX = 4; // less is a click, more a drag

export const text = (tag, className, content) => {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (content !== undefined) made.textContent = content;
  return made;
};

export const clock = (seconds, digits = 2) => {
  const unit = 10 ** digits, all = Math.round(seconds * unit);
  const whole = Math.floor(all / unit), part = String(all % unit).padStart(digits, '0');
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const pad = (value) => String(value).padStart(2, '0');
  return `${h ? `${h}:${pad(m)}` : m}:${pad(s)}${digits ? `.${part}` : ''}`;
};

function steps(low, high, most) {
  const raw = (high - low) / most, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= raw - 1e-12);
  const found = [];
  for (let number = Math.ceil(low / step - 1e-9); number * step <= high + 1e-9; number++) found.push(number * step);
  return { step, found };
}

export class Stage {
  // on: select(id), edges(id, onset, offset), drawn(onset, offset, search), seek(time)
  constructor(on) {
    this.on = on;
    this.picture = document.getElementById('picture');
    this.layer = document.getElementById('layer');
    this.canvas = document.getElementById('wave');
    this.heads = [...document.querySelectorAll('.head')];
    this.view = [0, 1];
    this.boxes = [];
    this.drawing = false;
    this.layer.addEventListener('pointerdown', (event) => this.press(event));
    this.canvas.addEventListener('click', (event) => this.on.seek(this.time(event)));
    new ResizeObserver(() => this.redraw()).observe(this.picture);
  }

  time(event) {
    const area = this.layer.getBoundingClientRect(), [start, stop] = this.view;
    const share = Math.min(1, Math.max(0, (event.clientX - area.left) / area.width));
    return start + share * (stop - start);
  }

  image(image, view, rate) {
    this.view = view;
    this.rate = rate;
    this.picture.querySelector('img')?.remove();
    if (image) this.picture.prepend(image);
    this.redraw();
  }

  sound(samples, start, rate) {
    Object.assign(this, { samples, start, perSecond: rate });
    this.wave();
  }

  mark(boxes, selected) {
    this.boxes = boxes;
    this.selected = selected;
    const [start, stop] = this.view, share = (time) => `${(100 * (time - start)) / (stop - start)}%`;
    this.layer.replaceChildren(...boxes.filter((box) => box.offset > start && box.onset < stop).map((box) => {
      const made = text('div', `box ${box.style} ${box.id === selected ? 'selected' : ''}`);
      made.dataset.id = box.id;
      made.style.left = share(box.onset);
      made.style.width = `${(100 * (box.offset - box.onset)) / (stop - start)}%`;
      made.append(text('span', 'tag', `${box.mark} ${box.label}`.trim()));
      if (box.edges) for (const side of ['left', 'right']) made.append(text('div', `edge ${side}`));
      return made;
    }));
    this.layer.classList.toggle('drawing', this.drawing);
  }

  press(event) {
    if (event.button !== 0) return;
    event.preventDefault();
    const id = event.target.closest('.box')?.dataset.id;
    const box = this.drawing || event.shiftKey ? undefined : this.boxes.find((one) => one.id === id);
    const side = box && event.target.classList.contains('edge') && (event.target.classList.contains('left') ? 'onset' : 'offset');
    const from = this.time(event), at = event.clientX, search = event.shiftKey;
    let far = false, span = null, ghost = null;
    const move = (moved) => {
      far ||= Math.abs(moved.clientX - at) >= NEAR_PX;
      if (!far || (box && !side)) return;
      const to = this.time(moved), [start, stop] = this.view, least = (stop - start) / 2000;
      if (side) {
        if (side === 'onset') box.onset = Math.min(to, box.offset - least);
        else box.offset = Math.max(to, box.onset + least);
        this.mark(this.boxes, this.selected);
      } else {
        span = [Math.min(from, to), Math.max(from, to)];
        if (!ghost) this.layer.append((ghost = text('div', `box ghost ${search ? 'search' : ''}`)));
        ghost.style.left = `${(100 * (span[0] - start)) / (stop - start)}%`;
        ghost.style.width = `${(100 * (span[1] - span[0])) / (stop - start)}%`;
      }
    };
    const end = (ended) => {
      removeEventListener('pointermove', move);
      removeEventListener('pointerup', end);
      removeEventListener('pointercancel', end);
      ghost?.remove();
      if (side && far) this.on.edges(box.id, box.onset, box.offset);
      else if (box && !far) this.on.select(box.id);
      else if (span && ended.type === 'pointerup') this.on.drawn(...span, search);
      else if (!box && !far) this.on.seek(from);
    };
    addEventListener('pointermove', move);
    addEventListener('pointerup', end);
    addEventListener('pointercancel', end);
  }

  redraw() {
    this.mark(this.boxes, this.selected);
    this.axes();
    this.wave();
  }

  axes() {
    const [start, stop] = this.view, width = this.picture.clientWidth, height = this.picture.clientHeight;
    const top = (this.rate ?? 2) / 2;
    const label = (content, side, share) => {
      const made = text('span', '', content);
      made.style[side] = `${100 * share}%`;
      return made;
    };
    const times = steps(start, stop, Math.max(2, width / 110)), digits = Math.max(0, Math.ceil(-Math.log10(times.step) - 1e-9));
    document.getElementById('seconds').replaceChildren(
      ...times.found.filter((time) => time < stop - 0.03 * (stop - start)).map((time) => label(clock(time, Math.min(digits, 4)), 'left', (time - start) / (stop - start))));
    const hertz = steps(0, top, Math.max(2, height / 55)).found.filter((one) => one < top * 0.98);
    document.getElementById('hertz').replaceChildren(
      ...hertz.map((one) => label(`${+(one / 1000).toFixed(3)}`, 'bottom', one / top)), text('i', '', 'kHz'));
  }

  wave() {
    const ratio = devicePixelRatio, { clientWidth: wide, clientHeight: high } = this.canvas;
    this.canvas.width = wide * ratio;
    this.canvas.height = high * ratio;
    if (!this.samples || !wide) return;
    const context = this.canvas.getContext('2d'), [start, stop] = this.view, middle = this.canvas.height / 2;
    context.fillStyle = getComputedStyle(this.canvas).color;
    const per = ((stop - start) * this.perSecond) / this.canvas.width, first = (start - this.start) * this.perSecond;
    for (let x = 0; x < this.canvas.width; x++) {
      let low = 32767, high16 = -32768;
      const from = Math.max(0, Math.floor(first + x * per)), to = Math.min(this.samples.length, Math.ceil(first + (x + 1) * per));
      for (let place = from; place < to; place++) {
        if (this.samples[place] < low) low = this.samples[place];
        if (this.samples[place] > high16) high16 = this.samples[place];
      }
      if (to > from) context.fillRect(x, middle - (high16 / 32768) * middle, 1, Math.max(1, ((high16 - low) / 32768) * middle));
    }
  }

  playhead(time) {
    const [start, stop] = this.view, inside = time !== null && time >= start && time <= stop;
    for (const head of this.heads) {
      head.style.display = inside ? 'block' : 'none';
      if (inside) head.style.left = `${(100 * (time - start)) / (stop - start)}%`;
    }
  }
}

export function parseWav(buffer) {
  const view = new DataView(buffer);
  return { rate: view.getUint32(24, true), samples: new Int16Array(buffer, 44) };
}

// A browser plays rates from 8 to 192 kHz: lower ones are drawn out, of higher ones neighbours are averaged.
function playable(samples, rate) {
  let values = Float32Array.from(samples, (value) => value / 32768), hertz = rate;
  while (hertz < 8000) {
    const longer = new Float32Array(values.length * 2);
    values.forEach((value, place) => {
      longer[2 * place] = value;
      longer[2 * place + 1] = (value + (values[place + 1] ?? value)) / 2;
    });
    [values, hertz] = [longer, hertz * 2];
  }
  while (hertz > 192000) {
    const from = values;
    [values, hertz] = [new Float32Array(from.length >> 1).map((_, place) => (from[2 * place] + from[2 * place + 1]) / 2), hertz / 2];
  }
  return { values, hertz };
}

export class Player {
  constructor(moved) {
    this.moved = moved;
  }

  get playing() {
    return Boolean(this.source);
  }

  // Play from one time to another of a clip that begins at `start` and is played `slow` times slower.
  play(sound, start, slow, from, to) {
    this.stop();
    this.context ??= new AudioContext();
    this.context.resume();
    if (!sound.buffer) {
      const { values, hertz } = playable(sound.samples, sound.rate);
      sound.buffer = this.context.createBuffer(1, values.length, hertz);
      sound.buffer.copyToChannel(values, 0);
    }
    const source = this.context.createBufferSource(), begun = this.context.currentTime;
    source.buffer = sound.buffer;
    source.connect(this.context.destination);
    source.start(0, (from - start) * slow, (to - from) * slow);
    source.onended = () => this.source === source && this.stop();
    this.source = source;
    const step = () => {
      if (this.source !== source) return;
      this.moved(from + (this.context.currentTime - begun) / slow);
      requestAnimationFrame(step);
    };
    step();
  }

  stop() {
    const source = this.source;
    this.source = null;
    source?.stop();
    this.moved(null);
  }
}
