package evidence

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"unicode/utf8"

	"github.com/auditfleet/auditfleet/collector/internal/eventtree"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// events reads records and what is said of them side by side.
func (v *verifier) events() error {
	f, size, err := v.open(Records)
	if err != nil {
		return err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 1<<20)
	v.hosts = map[string]bool{}
	var text []byte
	var hasher eventtree.Hasher
	var last query.Key
	var ev event.Event
	at := int64(0)
	err = v.eachLine(Events, func(line []byte) error {
		var e Event
		if err := strict(line, &e, encodeEvent); err != nil {
			return changed("%w", err)
		}
		v.lines++
		host := e.Host
		if e.HostHex != "" {
			b, err := hex.DecodeString(e.HostHex)
			if err != nil || utf8.Valid(b) {
				return changed("its host_hex is none")
			}
			host = string(b)
		}
		from, err := senderOf(&e)
		switch {
		case err != nil:
			return changed("%w", err)
		case e.N != v.lines:
			return changed("it is numbered %d", e.N)
		case e.Offset != at || e.Length < 1 || e.Length > maxText || e.Length > size-at:
			return changed("its records are said to lie at %d, %d bytes; those before end at %d of %d", e.Offset, e.Length, at, size)
		}
		if int64(cap(text)) < e.Length {
			text = make([]byte, e.Length)
		}
		text = text[:e.Length]
		if _, err := io.ReadFull(r, text); err != nil {
			return err
		}
		at += e.Length
		if _, rest, err := store.CutText(text, e.Counted); err != nil || len(rest) > 0 {
			return changed("the records at %d of %s are not those of one event", e.Offset, Records)
		}
		store.ParseInto(&ev, text, e.Counted, []byte(host), store.Origin{From: from})
		if len(ev.Records) != e.Records || len(e.Received) != 1 && len(e.Received) != e.Records {
			return changed("it has %d records and %d times of receipt, and says %d", len(ev.Records), len(e.Received), e.Records)
		}
		key := query.KeyOf(&ev)
		if v.lines > 1 && key.Compare(last) < 0 {
			return changed("it stands behind a later event")
		}
		last = key
		last.Node = string([]byte(key.Node))
		v.records += int64(e.Records)
		v.hosts[host] = true
		one := eventtree.Event{Host: host, From: from, Receipts: e.Received, Counted: e.Counted, Text: text}
		k := known{n: e.N, hash: hasher.Event(&one)}
		one.Host = ""
		k.mixed = hasher.Event(&one)
		v.batches[e.Batch] = append(v.batches[e.Batch], k)
		v.batchOf = append(v.batchOf, e.Batch)
		return nil
	})
	if err == nil && at != size {
		err = changed("%s has %d bytes behind its last event", Records, size-at)
	}
	return err
}

// senderOf returns the sender as a line has it, nil where none is known.
func senderOf(e *Event) (*event.Sender, error) {
	t, ok := transports[e.Transport]
	if !ok {
		return nil, fmt.Errorf("a transport %.40q", e.Transport)
	}
	s := &event.Sender{Host: e.Verified, Transport: t}
	if e.Address != "" {
		a, err := netip.ParseAddr(e.Address)
		if err != nil || a.String() != e.Address {
			return nil, fmt.Errorf("an address %.80q", e.Address)
		}
		s.Addr = a
	}
	if *s == (event.Sender{}) {
		return nil, nil
	}
	return s, nil
}
