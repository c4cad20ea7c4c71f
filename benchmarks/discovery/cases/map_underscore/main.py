import _cffi_backend

print(_cffi_backend.FFI().sizeof("int"))
