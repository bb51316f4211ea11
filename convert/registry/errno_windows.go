package registry

import "golang.org/x/sys/windows"

var brokenConnection = []error{windows.WSAECONNRESET, windows.WSAECONNREFUSED, windows.WSAECONNABORTED, windows.WSAETIMEDOUT}
