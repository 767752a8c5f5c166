package cli

import (
	"fmt"

	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/nss"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// argumentWords says what a rule's a0 … a3 means for a system call, in the
// words ausearch -i has for that argument.
func argumentWords() func(arch uint32, syscall, arg int, value uint32) string {
	in := interpret.New(interpret.Config{Names: nss.New(nss.Config{})})
	return func(arch uint32, syscall, arg int, value uint32) string {
		name := fmt.Sprintf("a%d", arg)
		line := fmt.Appendf(nil, "type=SYSCALL msg=audit(0.000:0): arch=%x syscall=%d %s=%x", arch, syscall, name, value)
		var r record.Record
		if err := r.Parse(line); err != nil {
			return ""
		}
		f, ok := r.Get(name)
		if !ok {
			return ""
		}
		return string(in.AppendValue(nil, &r, f))
	}
}
