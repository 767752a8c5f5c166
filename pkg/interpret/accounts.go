package interpret

import "strconv"

// Names translates the numbers of users, groups and other accounts into names. A method
// must not wait long for a network. pkg/nss implements it for this machine, Fleet for
// events of many hosts.
type Names interface {
	User(uid uint32) (string, bool)
	Group(gid uint32) (string, bool)
	Protocol(n uint16) (string, bool)
}

// Fleet is the Names for events of many hosts. The accounts of this machine say nothing
// about the ids of another host, whose alice may have bob's number here. So only the
// events of this machine's own host get this machine's names. An id of any other host is
// its number; 0, which is the same everywhere, is root.
//
// What is not known to belong to one host (a report's row) is treated like another
// host's. Several goroutines may use a Fleet as far as they may use the Names it has.
type Fleet struct {
	stranger
	own  Names
	host string
}

// NewFleet returns the Names for events of many hosts. own are this machine's names, host
// is the name by which this machine's events are known; without a name no event is.
func NewFleet(own Names, host string) *Fleet {
	return &Fleet{stranger: stranger{own}, own: own, host: host}
}

// Of returns the names for the events of one host; node is its name as events have it.
func (f *Fleet) Of(node []byte) Names {
	if f.host != "" && string(node) == f.host {
		return f.own
	}
	return f.stranger
}

// Refresh looks whether this machine's accounts have changed.
func (f *Fleet) Refresh() {
	if r, ok := f.own.(interface{ Refresh() }); ok {
		r.Refresh()
	}
}

// stranger is the Names of a host whose accounts are not known.
type stranger struct{ here Names }

// User returns the number, root for 0.
func (stranger) User(uid uint32) (string, bool) { return strangeID(uid), true }

// Group returns the number, root for 0.
func (stranger) Group(gid uint32) (string, bool) { return strangeID(gid), true }

// Protocol returns the protocol's name: its numbers are the same on every host.
func (s stranger) Protocol(n uint16) (string, bool) { return s.here.Protocol(n) }

// UserID returns the number of an account by its name. It knows root's only.
func (stranger) UserID(name string) (uint32, bool) { return 0, name == "root" }

func strangeID(id uint32) string {
	if id == 0 {
		return "root"
	}
	return strconv.FormatUint(uint64(id), 10)
}
