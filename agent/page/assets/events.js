// Events: what happened on all hosts, and who asked for it.
import {html, useState, State, Heading, Unasked, plural, compare} from './lib.js';
import {follow} from './store.js';
import {Choice} from './endpoints.js';

const first = 150;
const spans = [['1h', 'last hour'], ['24h', 'last day'], ['168h', 'last week']];
const bad = /^(member-dead|conflict|tunnel-failing|refused|events-lost|store-away)$/, odd = /^(agent-down|quarrel|drift-repaired|mtu-lowered|forced|address-freed)$/, good = /^(member-alive|tunnel-ok|store-back)$/;
const tone = k => bad.test(k) ? 'fail' : odd.test(k) ? 'warn' : good.test(k) ? 'ok' : '';

export function Events({f, at}) {
	const [q, setQ] = useState({since: f.since || '1h', ...at.query});
	const [most, setMost] = useState(first);
	const set = (key, value) => setQ({...q, [key]: value});
	const asked = (q.q || '').toLowerCase();
	const found = f.events.filter(e => (!q.kind || e.kind === q.kind) && (!q.host || e.host === q.host)
		&& (!asked || [e.text, e.subject, e.network, e.addr, e.by, e.kind, e.endpoint].join(' ').toLowerCase().includes(asked)));
	const choices = key => [...new Set(f.events.map(e => e[key]).concat(q[key] || []))].sort(compare);
	let day = '';
	return html`<${Heading} title="Events">${f.heard ? 'As each host writes them down, newest first.' : 'They do not come at this moment; the page goes on trying.'} ${found.length < f.events.length && `${found.length} of ${plural(f.events.length, 'event')}.`}<//>
		<form class="filters" onSubmit=${e => e.preventDefault()}>
			<label class="wide-field"><span>Search</span><input type="search" value=${q.q || ''} placeholder="endpoint, network, user…" onInput=${e => set('q', e.target.value)} autocomplete="off" spellcheck="false" /></label>
			<${Choice} title="Kind" value=${q.kind} of=${choices('kind')} set=${v => set('kind', v)} />
			<${Choice} title="Host" value=${q.host} of=${choices('host')} set=${v => set('host', v)} />
			<${Choice} title="Time" value=${q.since} of=${spans} none="" set=${v => {
				set('since', v);
				follow(v);
			}} /></form>
		<${Unasked} list=${f.missing} />
		${!found.length && html`<p class="empty">Nothing that is written down${f.events.length ? ' has these words' : ` happened in the ${(spans.find(s => s[0] === q.since) || spans[0])[1]}`}.</p>`}
		<ol class="events" aria-label="Events, newest first">${found.slice(0, most).map(e => {
			const d = new Date(e.at), today = d.toLocaleDateString('sv');
			const head = today !== day && html`<li class="day" key=${today}>${today}</li>`;
			day = today;
			const commands = e.detail && Array.isArray(e.detail.commands) ? e.detail.commands : [];
			return [head, html`<li key=${e.key}><time datetime=${e.at} title=${e.at}>${d.toLocaleTimeString('sv')}</time><span class="where">${e.host}</span><span class="kind ${tone(e.kind)}">${e.kind}</span>
				<div class="what">${e.text || e.subject}${e.by && e.by !== e.host && html` <span class="quiet">by ${e.by}</span>`}${commands.map(c => html`<code class="command">${c}</code>`)}</div></li>`];
		})}</ol>
		${found.length > most && html`<p><button type="button" onClick=${() => setMost(most + 500)}>Show more</button></p>`}`;
}
