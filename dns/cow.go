package dns

import (
	"hash/maphash"
	"iter"
	"maps"
)

// cowParts is how many parts a cowMap has. One changed name among 50 000 then
// copies some 200 entries, not 50 000.
const cowParts = 256

// cowSeed is the same for all maps, so that an edited copy finds its keys in
// the parts where the original put them.
var cowSeed = maphash.MakeSeed()

// cowMap is an immutable map in parts. An edited copy shares every part that
// the edit does not touch, so readers need no lock and a writer pays for what
// it changes. The zero value is empty.
type cowMap[K comparable, V any] struct {
	parts [cowParts]map[K]V
}

func cowPart[K comparable](k K) uint8 { return uint8(maphash.Comparable(cowSeed, k)) }

// get returns the zero V for a key that is not there.
func (m *cowMap[K, V]) get(k K) V { return m.parts[cowPart(k)][k] }

// all visits every entry, in no order.
func (m *cowMap[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for _, part := range m.parts {
			for k, v := range part {
				if !yield(k, v) {
					return
				}
			}
		}
	}
}

// edit begins a copy of m, to which about n keys will be added; m itself never
// changes.
func (m *cowMap[K, V]) edit(n int) *cowEdit[K, V] {
	return &cowEdit[K, V]{m: &cowMap[K, V]{parts: m.parts}, room: n / cowParts}
}

// cowEdit is a copy in the making. It must not be used after done.
type cowEdit[K comparable, V any] struct {
	m    *cowMap[K, V]
	own  [cowParts]bool // parts that are already copies
	room int            // keys that a new part is made for
}

func (e *cowEdit[K, V]) get(k K) V { return e.m.get(k) }

func (e *cowEdit[K, V]) set(k K, v V) { e.part(k)[k] = v }

func (e *cowEdit[K, V]) delete(k K) { delete(e.part(k), k) }

func (e *cowEdit[K, V]) done() *cowMap[K, V] { return e.m }

// part returns the part that k belongs to, copied at its first use.
func (e *cowEdit[K, V]) part(k K) map[K]V {
	i := cowPart(k)
	if !e.own[i] {
		e.own[i] = true
		e.m.parts[i] = maps.Clone(e.m.parts[i])
		if e.m.parts[i] == nil {
			e.m.parts[i] = make(map[K]V, e.room)
		}
	}
	return e.m.parts[i]
}
