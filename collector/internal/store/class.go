package store

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Class is some of the events, which are kept for a time of their own: those of hosts that a pattern
// names, or those with a key that a pattern names.
type Class struct {
	Hosts, Key string // patterns as query.Like has them; one of both is ""
}

// String returns the class's name: "web*", or "key noise".
func (c Class) String() string {
	if c.Key != "" {
		return "key " + c.Key
	}
	return c.Hosts
}

// IsKeyClass reports whether a class's name is that of events with a key.
func IsKeyClass(name string) bool { return strings.HasPrefix(name, "key ") }

// Classes divide events: an event is of the first class that it belongs to, and of the rest where it
// belongs to none.
type Classes []Class

// Rest returns the name of the class of all other events. It tells what they were divided from: events
// that were divided by other classes are another rest.
func (c Classes) Rest() string {
	h := fnv.New32a()
	for _, class := range c {
		fmt.Fprintf(h, "%s\n", class)
	}
	return fmt.Sprintf("* %08x", h.Sum32())
}

// Undivided is in the place of a class's name where parts of a day were merged while it ran: their events may be of any class, and are divided once it
// is over. No class has the name, and no rest.
const Undivided = "* undivided"

// Name returns the name of class i; that behind the last is the rest's.
func (c Classes) Name(i int) string {
	if i < len(c) {
		return c[i].String()
	}
	return c.Rest()
}

// Classifier says of which class events are. It is for one goroutine.
type Classifier struct {
	classes Classes
	keys    bool           // a class is of a key
	hosts   map[string]int // by host: its first class by hosts
	x       query.Extractor
	found   []bool // by class: the present event has its key
}

// mostHosts is how many hosts a Classifier remembers.
const mostHosts = 1 << 16

// NewClassifier returns a Classifier.
func NewClassifier(c Classes) *Classifier {
	out := &Classifier{classes: c, hosts: map[string]int{}, found: make([]bool, len(c))}
	for _, class := range c {
		out.keys = out.keys || class.Key != ""
	}
	return out
}

var keyField = []byte("key=")

// Of returns the number of the event's class; len(classes) is the rest. host is whose it is, "" for the
// host of mixed nodes, where it is its node's.
func (c *Classifier) Of(host string, ev *event.Event) int {
	if host == "" {
		host = string(ev.Node)
	}
	first := c.ofHost(host)
	if !c.keys || !hasKey(ev) {
		return first
	}
	clear(c.found)
	c.x.ExtractOnly(ev, query.SetOf(query.FieldKey), func(f query.Field, v []byte) {
		if f != query.FieldKey {
			return
		}
		for i := range c.classes[:first] {
			c.found[i] = c.found[i] || c.classes[i].Key != "" && query.NodeIs(c.classes[i].Key, string(v))
		}
	})
	for i, has := range c.found[:first] {
		if has {
			return i
		}
	}
	return first
}

// hasKey reports whether a record has a field of keys at all.
func hasKey(ev *event.Event) bool {
	for i := range ev.Records {
		if bytes.Contains(ev.Records[i].Raw, keyField) {
			return true
		}
	}
	return false
}

// ofHost returns the first class by hosts that a host is in.
func (c *Classifier) ofHost(host string) int {
	n, ok := c.hosts[host]
	if ok {
		return n
	}
	for n = 0; n < len(c.classes); n++ {
		if p := c.classes[n].Hosts; p != "" && query.NodeIs(p, host) {
			break
		}
	}
	if len(c.hosts) < mostHosts {
		c.hosts[host] = n
	}
	return n
}
