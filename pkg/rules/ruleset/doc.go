// Package ruleset works on whole sets of rules. Parse reads a rule file as auditctl -R
// does, and Merge the folder of files that augenrules merges. Resolve works out which
// rules a kernel should hold after a file, and Lint warns of rules that will not do what
// was meant. NewPlan plans the steps from the rules that a kernel holds to those wanted,
// and Plan.Apply carries them out: at no moment between is less watched than both before
// and after. ORDER.md argues why, and how the order of the kernel's lists is kept.
//
// It talks to a kernel only through the Kernel interface. The forwarder's command line
// imports it; anything that checks rule files may.
package ruleset
