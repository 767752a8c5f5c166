package interpret

import "testing"

// A fleet's ids are named by their own host's accounts: this machine's for its own events,
// none for the others', where 0 and unset are words as they are everywhere.
func TestFleet(t *testing.T) {
	const ids = `type=SYSCALL msg=audit(1.000:1): auid=1000 uid=0 gid=100 egid=0 ses=4294967295 euid=4294967295 suid=77`
	in := New(Config{Names: NewFleet(fakeNames{}, "hub")})
	for _, c := range []struct{ node, line, want string }{
		{"hub", ids, "auid=alice uid=root gid=users egid=root ses=unset euid=unset suid=unknown(77) "},
		{"web1", ids, "auid=1000 uid=root gid=100 egid=root ses=unset euid=unset suid=77 "},
		{"", ids, "auid=1000 uid=root gid=100 egid=root ses=unset euid=unset suid=77 "},
		{"HUB", ids, "auid=1000 uid=root gid=100 egid=root ses=unset euid=unset suid=77 "},
		{"web1", ids + "\x1dAUID=\"carol\" UID=\"root\" SUID=\"unknown(77)\"", "auid=carol uid=root gid=100 egid=root ses=unset euid=unset suid=unknown(77) "},
		{"web1", "type=USER_CMD msg=audit(1.000:1): proto=6 auid=4294967294", "proto=tcp auid=4294967294 "},
	} {
		in.Host([]byte(c.node))
		if got := in.AppendBody(nil, parsed(t, c.line)); string(got) != c.want {
			t.Errorf("%q %s:\n%q, want\n%q", c.node, c.line, got, c.want)
		}
	}
	unnamed := NewFleet(fakeNames{}, "") // of a machine without a name no event is known to be its own
	if name, _ := unnamed.Of(nil).User(1000); name != "1000" {
		t.Errorf("without a host name 1000 is %s", name)
	}
	if name, _ := unnamed.User(1000); name != "1000" {
		t.Errorf("of no one host 1000 is %s", name)
	}
}
