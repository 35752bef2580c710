// Where hosts are drawn and how lines go between them. It is pure: the same hosts in the
// same width are always in the same places.

export const GAP = 18;
const HEAD = 50, ROW = 23, PAD = 9, MOST = 8;

// shown is how many endpoints of a box are drawn; the rest is a number.
export const shown = n => n <= MOST ? n : MOST - 1;

const height = n => HEAD + (n ? PAD * 2 - 3 + (shown(n) + (n > MOST ? 1 : 0)) * ROW : 0);

// arrange places hosts, each with how many endpoints it has, in a width.
export function arrange(hosts, width) {
	if (hosts.length > 50) return {kind: 'grid'};
	if (width < 720) return stack(hosts, width);
	return hosts.length > 8 ? columns(hosts, width) : rows(hosts, width);
}

// rows are two of them, the boxes facing each other.
function rows(hosts, width) {
	const n = hosts.length;
	const top = n <= 2 ? n : Math.floor(n / 2);
	const most = Math.max(top, n - top);
	const w = Math.min(272, (width - 48 * (most - 1)) / most);
	const lines = [hosts.slice(0, top), hosts.slice(top)].filter(l => l.length);
	const tall = lines.map(l => Math.max(...l.map(h => height(h.n))));
	const between = n === 3 || n === 4 ? 140 : n > 4 ? 210 : 0;
	const boxes = {};
	lines.forEach((line, r) => {
		const step = Math.min(w + 220, (width - w) / Math.max(1, line.length - 1));
		const left = (width - w - step * (line.length - 1)) / 2;
		line.forEach((h, i) => {
			const own = height(h.n);
			boxes[h.name] = {x: Math.round(left + i * step), y: r === 0 ? tall[0] - own : tall[0] + between, w: Math.round(w), h: own, r, i};
		});
	});
	const total = tall.reduce((a, b) => a + b, 0) + (lines.length > 1 ? between : 0);
	return {kind: 'rows', boxes, height: total, path: (a, b) => across(boxes[a], boxes[b], boxes)};
}

// across is the line between two boxes of rows, from left to right or from above.
function across(a, b, all) {
	if (a.r > b.r || a.r === b.r && a.i > b.i) return turned(across(b, a, all));
	if (a.r === b.r && b.i - a.i === 1) {
		const y = a.r === 0 && Object.values(all).every(o => o.r === 0) ? Math.max(a.y, b.y) + HEAD / 2 : a.r === 0 ? a.y + a.h - HEAD / 2 : a.y + HEAD / 2;
		const yy = Math.min(Math.max(y, Math.max(a.y, b.y) + 12), Math.min(a.y + a.h, b.y + b.h) - 12);
		return line([a.x + a.w, yy], [b.x, yy]);
	}
	if (a.r === b.r) { // over the one between, through the middle
		const down = a.r === 0 ? 1 : -1;
		const y = a.r === 0 ? a.y + a.h : a.y, far = 34 + 22 * (b.i - a.i);
		const y2 = b.r === 0 ? b.y + b.h : b.y;
		const p = [a.x + a.w * .72, y], q = [b.x + b.w * .28, y2];
		return curve(p, [p[0] + 30, y + down * far], [q[0] - 30, y2 + down * far], q);
	}
	const others = Object.values(all);
	const spread = (box, to) => { // where on its edge: by where the other end is
		const row = others.filter(o => o.r !== box.r).sort((x, y) => x.x - y.x);
		return box.x + box.w * (row.length === 1 ? .5 : .22 + .56 * row.indexOf(to) / (row.length - 1));
	};
	return line([spread(a, b), a.y + a.h], [spread(b, a), b.y]);
}

// columns are two, for many hosts: one line for each, and the ways between them.
function columns(hosts, width) {
	const w = Math.min(300, width * .3), h = 30, step = 36, half = Math.ceil(hosts.length / 2);
	const boxes = {};
	hosts.forEach((o, i) => {
		const right = i >= half;
		boxes[o.name] = {x: right ? width - w : 0, y: (right ? i - half : i) * step, w, h, right};
	});
	const path = (a, b) => {
		const p = boxes[a], q = boxes[b];
		const from = [p.right ? p.x : p.x + p.w, p.y + h / 2], to = [q.right ? q.x : q.x + q.w, q.y + h / 2];
		if (p.right !== q.right) return line(from, to);
		const out = (p.right ? -1 : 1) * (24 + Math.min(width * .16, Math.abs(p.y - q.y) * .35));
		return curve(from, [from[0] + out, from[1]], [to[0] + out, to[1]], to);
	};
	return {kind: 'columns', boxes, height: half * step, path};
}

// stack is one column, with the ways at its left: for a narrow screen.
function stack(hosts, width) {
	const many = hosts.length > 8, gutter = hosts.length > 1 ? 46 : 0;
	let y = 0;
	const boxes = {};
	hosts.forEach((o, i) => {
		const h = many ? 30 : height(o.n);
		boxes[o.name] = {x: gutter, y, w: width - gutter, h, i};
		y += h + (many ? 6 : 16);
	});
	const path = (a, b) => {
		if (boxes[a].i > boxes[b].i) return turned(path(b, a));
		const p = boxes[a], q = boxes[b], off = many ? 15 : 20;
		const from = [p.x, p.y + off + 6], to = [q.x, q.y + off - 6];
		const out = Math.min(gutter * 1.25, 14 + 14 * (q.i - p.i));
		return curve(from, [from[0] - out, from[1]], [to[0] - out, to[1]], to);
	};
	return {kind: many ? 'columns' : 'stack', narrow: true, boxes, height: y, path};
}

const at = n => Math.round(n * 10) / 10;
const line = (p, q) => ({d: `M${at(p[0])} ${at(p[1])}L${at(q[0])} ${at(q[1])}`, p, q, mid: t => [p[0] + (q[0] - p[0]) * t, p[1] + (q[1] - p[1]) * t], flip: false});
const curve = (p, c1, c2, q) => ({
	d: `M${at(p[0])} ${at(p[1])}C${at(c1[0])} ${at(c1[1])} ${at(c2[0])} ${at(c2[1])} ${at(q[0])} ${at(q[1])}`, p, q, flip: false,
	mid: t => [0, 1].map(i => (1 - t) ** 3 * p[i] + 3 * (1 - t) ** 2 * t * c1[i] + 3 * (1 - t) * t * t * c2[i] + t ** 3 * q[i]),
});
const turned = w => ({...w, flip: !w.flip});
