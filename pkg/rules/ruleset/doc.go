// Package ruleset is about many rules together: rule files as auditctl -R reads
// them (Parse), the folder of them that augenrules merges (Merge), what a file
// comes to on top of the rules a kernel holds (Resolve), what is questionable
// about it (Lint), and how a kernel gets from the rules it holds to those wanted
// without a moment in which less is watched than before and after (NewPlan,
// Plan.Apply). ORDER.md says how the order of the kernel's lists is kept.
//
// It talks to a kernel only through the Kernel interface. The forwarder's
// command line imports it; anything that checks rule files may.
package ruleset
