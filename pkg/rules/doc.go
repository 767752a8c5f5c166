// Package rules turns the words of auditctl(8) into the kernel's audit rules and
// back: ParseArgs reads a command line, Rule.Marshal makes a struct
// audit_rule_data of it, Unmarshal reads the kernel's answer, Rule.Text writes
// the command line that loads exactly that rule again, and SplitLine reads a
// line of a rule file. It touches no kernel; forwarder/internal/cli does.
//
// The grammar is that of auditctl 3.0.9 with what audit 4.2 added. What
// auditctl takes without a word although it means something else (uid=1e3 is
// uid=1) is taken here too, with a warning, so that rule files load the same.
//
// One thing audit 4.2 takes is refused, as 3.0.9 does: a field on the exclude
// list that the kernel does not know there. Linux stops reading the list at such
// a rule, so that those after it exclude nothing.
//
// Four forms are our own. They exist so that every rule a kernel may hold has a
// text, and are written only where the stock form would load another rule:
//
//	-F fN OP VALUE   field number N, taken as it is (f105=/a>=b); fN@BITS=VALUE
//	                 with the operator's bits
//	-S @LIST         exactly these bits, on any list (@none, @0-3,257)
//	-a list9,action3 numbers of a list or an action without a name
//	-F $'…'          in a line: a word with C escapes (control bytes)
//
// A rule file is read line by line: SplitLine, Args, ParseArgs, and for an error
// Error.Column and Error.Detail. A loaded rule is compared with Rule.Equal (the
// kernel's idea of the same rule), read with Unmarshal and written with
// Rule.Text; Rule.Refusal tells beforehand what the kernel will not take.
// Values of Rule, Command and Error belong to the caller; nothing here keeps
// state, and all of it may be used by several goroutines at once.
//
// It imports tables, accounts and small helpers of pkg; anything may import it.
package rules
