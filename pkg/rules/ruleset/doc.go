// Package ruleset works on whole sets of rules. Parse reads a rule file as auditctl -R
// does, and Merge the folder of files that augenrules merges. Resolve computes which
// rules a kernel should hold after a file was loaded, and Lint warns of rules that do not
// do what their author probably meant. NewPlan plans the steps from the rules that a
// kernel holds to those wanted, and Plan.Apply carries them out. At each moment in
// between, every event is recorded that both the old and the new rules record. ORDER.md
// argues why, and how the order of the kernel's lists is kept.
//
// The package reaches a kernel only through the Kernel interface. The forwarder's command
// line imports it; any package that checks rule files may.
package ruleset
