package boltfile

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"slices"

	"go.etcd.io/bbolt"
)

// The format of a file, as go.etcd.io/bbolt writes it on a little-endian machine: pages of one
// size, each with a header. Pages 0 and 1 are the meta pages; the one with the
// higher transaction and a good checksum counts. Its root bucket is a tree of branch
// and leaf pages. A leaf holds keys with their values; a value may be a bucket, which
// is a tree of its own or, when it is small, a page within the value.
const (
	magic   = 0xED0CDAED
	version = 2

	pageHeader    = 16 // id uint64, flags uint16, count uint16, overflow uint32
	elementHeader = 16
	bucketHeader  = 16 // root uint64, sequence uint64

	branchPage   = 0x01
	leafPage     = 0x02
	freelistPage = 0x10

	bucketLeaf = 0x01 // flag of a leaf's element

	noFreelist = ^uint64(0)
	deepest    = 64 // levels of pages and buckets; bbolt needs five for a terabyte
)

// meta is what counts of a meta page.
type meta struct {
	pageSize       uint64
	root, freelist uint64 // pages
	pages          uint64 // one more than the highest page
	tx             uint64
}

// Record is a key and its value in a bucket. Buckets are not nested here.
type Record struct {
	Bucket     string
	Key, Value []byte
}

// Contents is what could be read of a file.
type Contents struct {
	Records   []Record
	Sequences map[string]uint64 // of its buckets
	Foreign   bool              // nothing says that it is a database
}

// reader reads the pages of a file that may hold anything.
type reader struct {
	file     []byte
	meta     meta            // the newest
	seen     map[uint64]bool // pages that are used
	out      Contents
	problems []error
}

// read takes whatever can be read, and says what is wrong. It never panics, and
// ends for any file.
func read(file []byte) (Contents, []error) {
	r := &reader{file: file, seen: map[uint64]bool{0: true, 1: true}, out: Contents{Sequences: map[string]uint64{}}}
	if !r.newestMeta() {
		return r.out, r.problems
	}
	if have := uint64(len(file)) / r.meta.pageSize; have < r.meta.pages {
		r.fail("it has %d of its %d pages", have, r.meta.pages)
	}
	(&tree{reader: r}).page(r.meta.root, nil, 0)
	r.freelist()
	return r.out, r.problems
}

func (r *reader) fail(format string, args ...any) {
	r.problems = append(r.problems, fmt.Errorf(format, args...))
}

// newestMeta reads the meta page that counts. With only one that is whole it is not
// known whether the last transaction is lost: bbolt would not say so.
func (r *reader) newestMeta() (ok bool) {
	whole := 0
	r.out.Foreign = true
	for _, at := range metaPlaces(r.file) {
		if b := r.file[at:]; len(b) >= pageHeader+4 && binary.LittleEndian.Uint32(b[pageHeader:]) == magic {
			r.out.Foreign = false
		}
		if m, ok := parseMeta(r.file[at:]); ok {
			whole++
			if whole == 1 || m.tx > r.meta.tx {
				r.meta = m
			}
		}
	}
	if whole < 2 {
		r.fail("%d of its 2 meta pages are whole", whole)
	}
	return whole > 0
}

// metaPlaces are where meta pages may begin: at 0, and at the size of a page, which
// the first says, or which is tried.
func metaPlaces(file []byte) (places []int) {
	places = []int{0}
	if m, ok := parseMeta(file); ok {
		places = append(places, int(m.pageSize))
	} else {
		for size := 1024; size <= 1<<24; size *= 2 {
			places = append(places, size)
		}
	}
	return slices.DeleteFunc(places, func(at int) bool { return at >= len(file) })
}

func parseMeta(page []byte) (m meta, ok bool) {
	const length = 64
	if len(page) < pageHeader+length {
		return m, false
	}
	b := page[pageHeader:]
	sum := fnv.New64a()
	_, _ = sum.Write(b[:length-8])
	u64 := binary.LittleEndian.Uint64
	m = meta{
		pageSize: uint64(binary.LittleEndian.Uint32(b[8:])), root: u64(b[16:]),
		freelist: u64(b[32:]), pages: u64(b[40:]), tx: u64(b[48:]),
	}
	size := m.pageSize
	ok = binary.LittleEndian.Uint32(b) == magic && binary.LittleEndian.Uint32(b[4:]) == version && u64(b[56:]) == sum.Sum64() &&
		size >= 1024 && size <= 1<<24 && size&(size-1) == 0 && m.pages > 1
	return m, ok
}

// page is a page with those that it overflows into.
type page struct {
	body     []byte // with the header
	flags    uint16
	count    int
	overflow uint64
}

func parsePage(b []byte) (p page, id uint64, ok bool) {
	if len(b) < pageHeader {
		return p, 0, false
	}
	return page{body: b, flags: binary.LittleEndian.Uint16(b[8:]), count: int(binary.LittleEndian.Uint16(b[10:])),
		overflow: uint64(binary.LittleEndian.Uint32(b[12:]))}, binary.LittleEndian.Uint64(b), true
}

// page returns a page of the file that no other has used.
func (r *reader) page(id uint64) (p page, ok bool) {
	size := r.meta.pageSize
	if id < 2 || id >= r.meta.pages || id >= uint64(len(r.file))/size {
		r.fail("page %d is outside the file", id)
		return p, false
	}
	p, self, ok := parsePage(r.file[id*size : (id+1)*size])
	end := id + 1 + p.overflow
	if !ok || self != id || end > r.meta.pages || end > uint64(len(r.file))/size {
		r.fail("page %d says that it is page %d with %d more", id, self, p.overflow)
		return p, false
	}
	for i := id; i < end; i++ {
		if r.seen[i] {
			r.fail("page %d is used twice", i)
			return p, false
		}
		r.seen[i] = true
	}
	p.body = r.file[id*size : end*size]
	return p, true
}

// element is one of a page: a key with its value, or with the page below.
type element struct {
	key, value []byte
	bucket     bool
	below      uint64
}

// element reads the i-th of a page, whose key begins at a place in the page; next is
// where it ends. bbolt leaves no gap, so that an element that is passed over, or read
// twice, is noticed. After one that is not whole the place is not known: 0.
func (p page) element(i, place int) (e element, next int, ok bool) {
	at := pageHeader + i*elementHeader
	if at+elementHeader > len(p.body) {
		return e, 0, false
	}
	b := p.body[at:]
	u32 := func(i int) uint64 { return uint64(binary.LittleEndian.Uint32(b[i:])) }
	var pos, key, value uint64
	if p.flags == branchPage {
		pos, key, e.below = u32(0), u32(4), binary.LittleEndian.Uint64(b[8:])
	} else {
		e.bucket = u32(0) == bucketLeaf
		pos, key, value = u32(4), u32(8), u32(12)
		if u32(0) > bucketLeaf {
			return e, 0, false
		}
	}
	if key == 0 || pos < elementHeader || place > 0 && uint64(at)+pos != uint64(place) {
		return e, 0, false
	}
	if e.key, ok = part(b, pos, key); !ok {
		return e, 0, false
	}
	if e.value, ok = part(b, pos+key, value); !ok {
		return e, 0, false
	}
	return e, at + int(pos+key+value), true
}

func part(b []byte, at, length uint64) ([]byte, bool) {
	if at > uint64(len(b)) || length > uint64(len(b))-at {
		return nil, false
	}
	return b[at : at+length], true
}

// tree reads the tree of one bucket, in the order of its keys. The root bucket has
// no name.
type tree struct {
	*reader
	bucket string
	last   []byte // key
}

// page reads what is below a page, whose keys are not lower than low.
func (t *tree) page(id uint64, low []byte, depth int) {
	if depth > deepest {
		t.fail("page %d is too deep", id)
		return
	}
	if p, ok := t.reader.page(id); ok {
		t.elements(p, fmt.Sprintf("page %d", id), low, depth)
	}
}

func (t *tree) elements(p page, where string, low []byte, depth int) {
	if p.flags != branchPage && p.flags != leafPage {
		t.fail("%s is of no known kind", where)
		return
	}
	if p.count == 0 && (p.flags == branchPage || len(bytes.Trim(p.body[pageHeader:], "\x00")) > 0) {
		t.fail("%s says that it is empty", where)
		return
	}
	place := pageHeader + p.count*elementHeader
	for i := range p.count {
		e, next, ok := p.element(i, place)
		place = next
		if !ok {
			t.fail("%s: element %d is not whole", where, i)
			continue
		}
		if bytes.Compare(e.key, low) < 0 || t.last != nil && bytes.Compare(e.key, t.last) <= 0 {
			t.fail("%s: element %d is out of order", where, i)
		}
		if p.flags == branchPage {
			t.page(e.below, e.key, depth+1)
			continue
		}
		t.last = e.key
		if e.bucket {
			t.child(e, depth+1)
			continue
		}
		if t.bucket == "" || len(e.key) > bbolt.MaxKeySize {
			t.fail("%s: element %d is in no bucket", where, i)
			continue
		}
		t.out.Records = append(t.out.Records, Record{Bucket: t.bucket, Key: bytes.Clone(e.key), Value: bytes.Clone(e.value)})
	}
}

// child reads a bucket, which is the value of its name.
func (t *tree) child(e element, depth int) {
	if t.bucket != "" || len(e.value) < bucketHeader {
		t.fail("bucket %q is not whole, or within %q", e.key, t.bucket)
		return
	}
	c := &tree{reader: t.reader, bucket: string(e.key)}
	root := binary.LittleEndian.Uint64(e.value)
	t.out.Sequences[c.bucket] = binary.LittleEndian.Uint64(e.value[8:])
	if root != 0 {
		c.page(root, nil, depth)
		return
	}
	p, _, ok := parsePage(e.value[bucketHeader:])
	if !ok || p.flags != leafPage {
		t.fail("bucket %q is not whole", c.bucket)
		return
	}
	c.elements(p, fmt.Sprintf("bucket %q", c.bucket), nil, depth)
}

// freelist checks that every page is used or free, and none both: bbolt writes into
// those that the list calls free.
func (r *reader) freelist() {
	if r.meta.freelist == noFreelist {
		return
	}
	p, ok := r.page(r.meta.freelist)
	if !ok {
		return
	}
	if p.flags != freelistPage {
		r.fail("page %d is no list of free pages", r.meta.freelist)
		return
	}
	ids := p.body[pageHeader:]
	count := uint64(p.count)
	if p.count == 0xFFFF && len(ids) >= 8 {
		count, ids = binary.LittleEndian.Uint64(ids), ids[8:]
	}
	if count > uint64(len(ids)/8) {
		r.fail("the list of free pages is not whole")
		return
	}
	for i := range count {
		id := binary.LittleEndian.Uint64(ids[8*i:])
		if id < 2 || id >= r.meta.pages || r.seen[id] {
			r.fail("page %d is free and used, or outside the file", id)
			return
		}
		r.seen[id] = true
	}
	if lost := r.meta.pages - uint64(len(r.seen)); lost > 0 && len(r.problems) == 0 {
		r.fail("%d pages are neither used nor free", lost)
	}
}
