package archive

// Host is what a process in memory depends on of the machine that it was dumped on, and
// its images do not say. A field that is empty is not known.
type Host struct {
	Arch    string `json:"arch,omitempty"`   // as Go names it
	Kernel  string `json:"kernel,omitempty"` // uname -r
	CRIU    string `json:"criu,omitempty"`   // its version
	Cgroup  string `json:"cgroup,omitempty"` // version of control groups: "1", or "2"
	Runtime string `json:"runtime,omitempty"`
	CPU     CPU    `json:"cpu,omitzero"`
}

// CPU is what a program may have found out about its processor and goes on using.
type CPU struct {
	Vendor   string   `json:"vendor,omitempty"`
	Model    string   `json:"model,omitempty"`
	Features []string `json:"features,omitempty"` // sorted, as Linux names them
	// XSave is the size of the registers' save area with all that is enabled. CRIU
	// restores registers only where it is the same.
	XSave uint32 `json:"xsave,omitempty"`
}
