package archive

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Host is what a process in memory depends on of the machine that it was dumped on. Of
// these CRIU's images hold none: by default CRIU neither records processors nor compares
// them, and what is restored on a lesser one dies later of an illegal instruction. A field that is
// empty is not known.
type Host struct {
	Arch    string `json:"arch,omitempty"`    // as Go names it
	Kernel  string `json:"kernel,omitempty"`  // uname -r
	CRIU    string `json:"criu,omitempty"`    // its version
	Cgroup  string `json:"cgroup,omitempty"`  // version of control groups, "1" or "2"
	Runtime string `json:"runtime,omitempty"` // version of the OCI runtime
	CPU     CPU    `json:"cpu,omitzero"`
}

// CPU is what a program may have found out about its processor and goes on using.
type CPU struct {
	Vendor   string   `json:"vendor,omitempty"`
	Model    string   `json:"model,omitempty"`
	Features []string `json:"features,omitempty"` // sorted, as Linux names them
	// XSave is how many bytes of registers the kernel has enabled, which glibc reserves
	// on the stack from what it saw when the program began.
	XSave uint32 `json:"xsave,omitempty"`
}

// Reason says why something cannot be restored on a host.
type Reason struct {
	Fact string // arch, kernel, criu, cgroup, cpu
	Why  string
}

func (r Reason) String() string { return r.Fact + ": " + r.Why }

// CanRestore says why what was dumped on another host cannot be restored on this one. Where
// it finds nothing, and everything is known of both, it should work: the pages are then as good
// here as there.
func (h Host) CanRestore(from Host) []Reason {
	var all []Reason
	add := func(fact, why string, args ...any) { all = append(all, Reason{fact, fmt.Sprintf(why, args...)}) }
	if differ(from.Arch, h.Arch) {
		add("arch", "it was dumped on %s and this host is %s", from.Arch, h.Arch)
	}
	if older(h.Kernel, from.Kernel) {
		add("kernel", "it was dumped on Linux %s and this host has the older %s", from.Kernel, h.Kernel)
	}
	if older(h.CRIU, from.CRIU) {
		add("criu", "CRIU %s dumped it and this host has the older %s", from.CRIU, h.CRIU)
	}
	if differ(from.Cgroup, h.Cgroup) {
		add("cgroup", "it was dumped with control groups of version %s and this host has version %s", from.Cgroup, h.Cgroup)
	}
	if h.Arch == from.Arch {
		all = append(all, h.CPU.canRestore(from.CPU)...)
	}
	return all
}

func (c CPU) canRestore(from CPU) []Reason {
	var all []Reason
	if len(c.Features) > 0 {
		lacking := slices.DeleteFunc(slices.Clone(from.Features), func(f string) bool {
			return slices.Contains(notInstructions, f) || slices.Contains(c.Features, f)
		})
		if len(lacking) > 0 {
			all = append(all, Reason{"cpu", fmt.Sprintf("it may use %s, which this processor (%s) has not", strings.Join(lacking, ", "), c.Model)})
		}
	}
	if from.XSave != 0 && c.XSave != 0 && from.XSave != c.XSave {
		all = append(all, Reason{"cpu", fmt.Sprintf("it reserves %d bytes for registers and this processor saves %d", from.XSave, c.XSave)})
	}
	return all
}

// differ is true where both are known.
func differ(a, b string) bool { return a != "" && b != "" && a != b }

// older compares major and minor numbers; what cannot be read is not older.
func older(a, b string) bool {
	x, okX := majorMinor(a)
	y, okY := majorMinor(b)
	return okX && okY && slices.Compare(x[:], y[:]) < 0
}

func majorMinor(version string) (v [2]int, ok bool) {
	parts := strings.SplitN(version, ".", 3)
	for i := range v {
		if i >= len(parts) {
			return v, i > 0
		}
		digits := parts[i][:len(parts[i])-len(strings.TrimLeft(parts[i], "0123456789"))]
		n, err := strconv.Atoi(digits)
		if err != nil {
			return v, false
		}
		v[i] = n
	}
	return v, true
}

// notInstructions are words among the flags in /proc/cpuinfo that are not about what a program
// can use: what the kernel made of the processor, how it guards itself, how machines are
// virtualized, what is counted and metered (arch/x86/include/asm/cpufeatures.h).
var notInstructions = strings.Fields(`
	acpi aperfmperf arat arch_capabilities arch_lbr arch_perfmon art avic bts cat_l2 cat_l3 cdp_l2 cdp_l3 constant_tsc
	cpb cpuid cpuid_fault cqm cqm_llc cqm_mbm_local cqm_mbm_total cqm_occup_llc cr8_legacy dca debug_swap decodeassists dtes64 dtherm ds_cpl
	dts ept ept_ad epb est extapic extd_apicid flexpriority flush_l1d flushbyasid hfi hw_pstate hwp hwp_act_window hwp_epp hwp_notify hwp_pkg_req
	hypervisor ibpb ibpb_exit_to_user ibrs ibrs_enhanced ibs ida intel_ppin intel_pt invpcid invpcid_single irperf la57 lbrv
	mba mca mce md_clear monitor mtrr mwaitx nonstop_tsc nopl npt nrip_save ospke pat pausefilter pbe pcid pconfig pdcm pdpe1gb pebs
	perfctr_core perfctr_llc perfctr_nb perfmon_v2 pfthreshold pge pln pse pse36 pti pts rapl rdt_a rep_good retpoline rsb_ctxsw
	rrsba_ctrl sdbg sev sev_es sev_snp sgx_lc skinit sme smep smap smx split_lock_detect ss ssbd ssbs stibp succor svm svm_lock tm tm2
	tme topoext tpr_shadow tsc_adjust tsc_deadline_timer tsc_known_freq tsc_reliable tsc_scale tsc_thread_offset v_spec_ctrl v_vmsave_vmload
	vgif vmcb_clean vme vmmcall vmx vnmi vpid wdt x2apic x2avic xtopology xtpr`)
