from backports import ours, tarfile

print(ours.answer(), tarfile.DEFAULT_FORMAT > 0)
