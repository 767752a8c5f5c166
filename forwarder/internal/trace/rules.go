package trace

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/pkg/rules"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// resourceCalls are the system calls that autrace 3.0.9 -r asks for: files,
// connections, programs. A machine lacks some.
var resourceCalls = []string{
	"open", "sendfile", "connect", "accept", "sendto", "recvfrom", "bind", "execve", "truncate", "chdir", "rename", "mkdir", "rmdir", "creat",
	"link", "unlink", "symlink", "readlink", "chmod", "chown", "lchown", "mknod", "openat", "mkdirat", "mknodat", "fchownat", "unlinkat",
	"renameat", "linkat", "symlinkat", "readlinkat", "fchmodat", "accept4", "name_to_handle_at", "openat2",
}

// ruleSet makes the rules of a trace: for the process and its children, or for
// a session when there is one.
func ruleSet(pid int, session *uint32, resource, first bool) []*rules.Rule {
	mask := rules.AllSyscalls()
	if resource {
		mask = rules.Mask{}
		arch := tables.MachineArch()
		for _, name := range resourceCalls {
			if n, ok := tables.SyscallByName(arch, name); ok && n <= rules.MaxSyscall {
				mask[n/32] |= 1 << (n % 32)
			}
		}
	}
	fields := []rules.Field{{ID: rules.FieldPID, Op: rules.Equal, Value: uint32(pid)}, {ID: rules.FieldPPID, Op: rules.Equal, Value: uint32(pid)}}
	if session != nil {
		fields = []rules.Field{{ID: rules.FieldSessionID, Op: rules.Equal, Value: *session}}
	}
	var list []*rules.Rule
	for _, f := range fields {
		list = append(list, &rules.Rule{List: rules.ListExit, Action: rules.Always, Mask: mask, Fields: []rules.Field{f}, Prepend: first})
	}
	if first {
		slices.Reverse(list) // the last one prepended comes first
	}
	return list
}

// load adds the rules.
func load(conn *kernel.Conn, list []*rules.Rule) error {
	for i, r := range list {
		b, err := r.Marshal()
		if err != nil {
			return err
		}
		if err := conn.AddRule(b); err != nil {
			return fmt.Errorf("add the trace's rule %d: %w", i+1, err)
		}
	}
	return nil
}

// deleting returns the bytes that delete each rule.
func deleting(list []*rules.Rule) ([][]byte, error) {
	out := make([][]byte, len(list))
	for i, r := range list {
		r = r.Clone()
		r.Prepend = false
		b, err := r.Marshal()
		if err != nil {
			return nil, err
		}
		out[i] = b
	}
	return out, nil
}

// carryOut deletes the rules, those that are there, and switches audit off if it
// was switched on.
func (d *duties) carryOut(conn *kernel.Conn) error {
	var errs []error
	for _, b := range d.Rules {
		if err := conn.DeleteRule(b); err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, err)
		}
	}
	if d.Enable {
		if err := conn.Set(kernel.Status{Mask: kernel.MaskEnabled}); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
