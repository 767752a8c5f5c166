package api

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/proto/fleet"
)

// socketPath is one that is short enough.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fleet")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

func TestListen(t *testing.T) {
	path := socketPath(t)
	ln, gid, err := Listen(path, "", true)
	if err != nil || gid != -1 {
		t.Fatalf("group %d, %v", gid, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v: others may ask", info.Mode(), err)
	}
	if _, _, err := Listen(path, "", true); err == nil || !strings.Contains(err.Error(), "already answers") {
		t.Errorf("beside another collector: %v", err)
	}
	ln.SetUnlinkOnClose(false)
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	ln, _, err = Listen(path, "", true)
	if err != nil {
		t.Fatalf("after one that was killed: %v", err)
	}
	ln.Close()
	if _, err := net.Dial("unix", path); err == nil {
		t.Error("it answers after Close")
	}
}

// What is in the way is left alone, and named.
func TestListenRefuses(t *testing.T) {
	path := socketPath(t)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ path, group, want string }{
		"a file":      {path, "", "no socket"},
		"a long path": {filepath.Join(path, strings.Repeat("x", 100)), "", "shorter one"},
		"no group":    {path + "2", "no such group of ours", "api_group"},
		"no folder":   {filepath.Join(path+"3", "s"), "", "the query socket"},
	} {
		if _, _, err := Listen(c.path, c.group, false); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("what was there: %v", err)
	}
}

// The group of the socket may ask, and change nothing: whoever may read must not take a host off the list, or
// off hold, nor have a log go on that was put back.
func TestGroupChangesNothing(t *testing.T) {
	a := Allowed{GID: 77}
	for _, m := range fleet.Query_ServiceDesc.Methods {
		method := "/" + fleet.Query_ServiceDesc.ServiceName + "/" + m.MethodName
		for uid, own := range map[uint32]bool{0: true, uint32(os.Geteuid()): true, 4242: false} {
			err := a.Authorize(t.Context(), method, &caller{Ucred: unix.Ucred{Uid: uid, Gid: 77}})
			if may := own || !fleet.Changes(method); (err == nil) != may {
				t.Errorf("%s by uid %d: %v", method, uid, err)
			}
		}
	}
	if !fleet.Changes("/" + fleet.Query_ServiceDesc.ServiceName + "/ChangeHolds") {
		t.Error("a change of holds is none")
	}
}
