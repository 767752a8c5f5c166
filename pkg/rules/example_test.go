package rules_test

import (
	"fmt"

	"github.com/auditfleet/auditfleet/pkg/rules"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// A rule goes from auditctl's words to the bytes that the kernel takes, and back to a
// line of a listing. The Env is given, so the result does not depend on this machine.
func Example() {
	env := rules.Env{Arch: tables.ArchX86_64}
	cmd, err := rules.ParseArgs(rules.Args(rules.SplitLine("-w /etc/hostname -p wa -k name")), env)
	if err != nil {
		fmt.Println(err)
		return
	}
	wire, err := cmd.Rule().Marshal()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(wire), "bytes") // a header of 1040, then "/etc/hostname" and "name"

	listed, err := rules.Unmarshal(wire)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(listed.Text(env, rules.TextOptions{}))
	// Output:
	// 1057 bytes
	// -w /etc/hostname -p wa -k name
}
